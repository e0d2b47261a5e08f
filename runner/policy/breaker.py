"""When a model is not worth another request: the same final error again and again."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Ids, numbers and quoted values differ between jobs that fail for one reason.
_VARIABLE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27,}|\b[0-9a-f]{12,}\b|\d+|'[^']*'|\"[^\"]*\"|`[^`]*`"
)


@dataclass(slots=True)
class _Streak:
    reason: str = ""
    length: int = 0


class Breaker:
    """Counts equal errors in a row, model by model; trips at `limit`, never when that is 0."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._streaks: dict[str, _Streak] = {}

    def failed(self, model: str, reason: str) -> bool:
        """A job of the model ended with this error; True when the model should be stopped."""
        kind = _VARIABLE.sub("…", reason.lower())
        streak = self._streaks.setdefault(model, _Streak())
        if streak.reason != kind:
            streak.reason, streak.length = kind, 0
        streak.length += 1
        return 0 < self.limit <= streak.length

    def succeeded(self, model: str) -> None:
        """A job of the model was completed."""
        self._streaks.pop(model, None)
