"""Named points between a commit and what depends on it, where tests make the process die.

`RUNNER_CRASH_AT=intent-committed:3` kills the process when it passes that point for the third time. It
is the only way to show that a run killed right there goes on where it was.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

POINTS = (
    "intent-committed",
    "submit-answered",
    "request-id-committed",
    "result-received",
    "result-committed",
    "file-checked",
    "file-renamed",
    "saved-committed",
)

INPUT_POINTS = ("file-uploaded", "upload-remembered")
"""Those that only a job passes which sends a file."""

_NAME, _, _TIMES = os.environ.get("RUNNER_CRASH_AT", "").partition(":")
_passed: Counter[str] = Counter()


def reach(point: str) -> None:
    """Says that the program is at this point; does nothing unless a test asked to die here."""
    if not _NAME or point != _NAME:
        return
    _passed[point] += 1
    if _passed[point] >= int(_TIMES or 1):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
