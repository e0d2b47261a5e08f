"""Which GET asks for a job: its status first, or its result at once.

The result route answers with the status body while a job runs: proven in use, not documented. It saves a
request a job, so `auto` asks one job for its status and the others for their result, and goes back for good
when that contradicts the status again and again. What looks wrong there is checked by status before
anything is concluded. Source: "The three calls" of the API's facts page.
"""

from __future__ import annotations

from typing import Literal

from runner.events import Call
from runner.policy.verdict import Meaning

Choice = Literal["auto", "status", "result"]

# One job's result may be late or lost; several in a row are a server that does not speak our dialect.
CONTRADICTIONS = 3
# A single error that passes is no reason for another request.
TROUBLES = 2

_SANE = frozenset({Meaning.RUNNING, Meaning.COMPLETED, Meaning.FAILED, Meaning.BLOCKED})


class Route:
    """Keys are the ledger's. A job that has been seen COMPLETED is only asked for its result."""

    def __init__(self, choice: Choice = "auto") -> None:
        self._choice = choice
        # Whose status is asked, so that an API without a result route is noticed on one job.
        self._first: int | None = None
        self._contradictions = 0
        self._finished: set[int] = set()
        self._troubles: dict[int, int] = {}

    @property
    def direct(self) -> bool:
        """Whether jobs are asked for their result at once."""
        return self._choice != "status"

    def call(self, key: int) -> Call:
        """The GET that this job is to be asked by."""
        if key in self._finished:
            return Call.RESULT
        if self._first is None and self._choice == "auto":
            self._first = key
        is_first = self._first == key
        return (
            Call.RESULT if self.direct and not (is_first or self.is_checked(key)) else Call.STATUS
        )

    def is_checked(self, key: int) -> bool:
        """Whether the result route's word on this job is to be checked by status."""
        return self._troubles.get(key, 0) >= TROUBLES

    def is_finished(self, key: int) -> bool:
        """Whether the status route has said that the job is done."""
        return key in self._finished

    def answered(self, key: int, call: Call, meaning: Meaning) -> None:
        """Takes in what an answer meant."""
        if call is Call.STATUS:
            self._told_by_status(key, meaning)
        elif key in self._finished:
            return
        elif meaning in _SANE:
            self._contradictions = 0
            self._troubles.pop(key, None)
        elif meaning is Meaning.NOT_FOUND:
            self._troubles[key] = TROUBLES
        elif meaning is Meaning.UNREADABLE:
            self._troubles[key] = self._troubles.get(key, 0) + 1

    def forget(self, key: int) -> None:
        """The job has ended."""
        self._finished.discard(key)
        self._troubles.pop(key, None)

    def _told_by_status(self, key: int, meaning: Meaning) -> None:
        if meaning is Meaning.COMPLETED:
            self._finished.add(key)
        if meaning not in (Meaning.COMPLETED, Meaning.RUNNING):
            return
        if self.is_checked(key):
            self._contradictions += 1
            if self._choice == "auto" and self._contradictions >= CONTRADICTIONS:
                self._choice = "status"
        self._troubles.pop(key, None)
        if key == self._first:
            self._first = -1
