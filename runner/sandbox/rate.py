"""Rate windows, fixed and sliding, and the four ways to write when a request is let in again."""

from __future__ import annotations

import math
from collections import deque
from datetime import UTC, datetime
from email.utils import formatdate

from runner.sandbox.options import ResetFormat


class Window:
    """Allows so many requests between two multiples of its length."""

    def __init__(self, limit: int | None, length_s: float) -> None:
        self.limit = limit
        self.length_s = length_s
        self._number = 0
        self._used = 0

    def take(self, now: float) -> bool:
        """Use one request up; False says that the window has none left."""
        if self.limit is None:
            return True
        number = math.floor(now / self.length_s)
        if number != self._number:
            self._number, self._used = number, 0
        if self._used >= self.limit:
            return False
        self._used += 1
        return True

    def ends_at(self, now: float) -> float:
        """When the present window ends."""
        return (math.floor(now / self.length_s) + 1) * self.length_s


class SlidingWindow:
    """Allows so many requests in any stretch of its length."""

    def __init__(self, limit: int | None, length_s: float) -> None:
        self.limit = limit
        self.length_s = length_s
        self._used: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Use one request up; False says that none is left for now."""
        if self.limit is None:
            return True
        while self._used and self._used[0] <= now - self.length_s:
            self._used.popleft()
        if len(self._used) >= self.limit:
            return False
        self._used.append(now)
        return True

    def ends_at(self, now: float) -> float:
        """When the next request is let in."""
        return (self._used[0] if self._used else now) + self.length_s


def reset_text(at: float, style: ResetFormat) -> str:
    """The value of `x-rate-limit-reset-at-utc`; rounded up, for early is too early."""
    match style:
        case "epoch":
            return str(math.ceil(at))
        case "epoch_ms":
            return str(math.ceil(at * 1000))
        case "iso":
            moment = datetime.fromtimestamp(math.ceil(at * 1000) / 1000, UTC)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "http":
            return formatdate(math.ceil(at), usegmt=True)
