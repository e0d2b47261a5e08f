"""The book of accepted requests: what was promised, what it costs, what is left to spend.

`now` is an argument of everything here; a job's state follows from its plan and the time.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from runner.sandbox.options import Options

Outcome = Literal["completed", "failed", "blocked", "never"]
PLENTY = 1000.0


@dataclass(slots=True, kw_only=True)
class Accepted:
    """One accepted POST: a billable job, with its whole fate planned at once."""

    request_id: str
    model: str
    body: dict[str, Any]
    body_key: str
    time: float
    started_at: float
    finished_at: float
    outcome: Outcome
    cost: float
    occurrence: int
    error: str | None = None
    markers: frozenset[str] = frozenset()
    polls: int = 0
    result_misses: int = 0

    def state(self, now: float) -> str:
        """QUEUED, PROCESSING, COMPLETED or FAILED."""
        if now < self.started_at:
            return "QUEUED"
        if now < self.finished_at:
            return "PROCESSING"
        return "COMPLETED" if self.outcome == "completed" else "FAILED"

    def charged(self, now: float) -> float:
        """What has been charged for it so far: all or nothing."""
        return self.cost if now >= self.finished_at else 0.0

    @property
    def token(self) -> str:
        """The unguessable part of its media URLs, the same after a restart."""
        return hashlib.sha256(f"media of {self.request_id}".encode()).hexdigest()[:48]


class Book:
    """All accepted requests and the money they took."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._unsettled: list[tuple[float, str]] = []
        self._spent = 0.0
        self.accepted: dict[str, Accepted] = {}
        self.in_order: list[Accepted] = []
        self.by_token: dict[str, Accepted] = {}
        self.posts_by_body: Counter[str] = Counter()
        self.accepted_by_body: Counter[str] = Counter()

    def add(self, record: Accepted) -> None:
        """Take a record in, new or out of the journal."""
        self.accepted[record.request_id] = record
        self.in_order.append(record)
        self.by_token[record.token] = record
        self.accepted_by_body[record.body_key] += 1
        # What never finishes stops binding money when it is forgotten.
        settled_at = min(record.finished_at, record.time + self._options.retention_s)
        heapq.heappush(self._unsettled, (settled_at, record.request_id))

    def balance(self, now: float) -> float:
        """What is left after everything that has completed."""
        if self._options.credits is None:
            return PLENTY
        self._settle(now)
        return round(self._options.credits - self._spent, 6)

    def can_afford_one_more(self, now: float) -> bool:
        """Whether the balance covers all that is in flight and one job more."""
        if self._options.credits is None:
            return True
        # The balance first: asking for it settles what has finished meanwhile.
        balance = self.balance(now)
        committed = (len(self._unsettled) + 1) * self._options.cost
        # Sums of floats are not exact.
        return balance - committed > -1e-9

    def remaining_s(self, record: Accepted, now: float) -> float:
        """How long status and result of a request can still be asked for."""
        return record.time + self._options.retention_s - now

    def _settle(self, now: float) -> None:
        while self._unsettled and self._unsettled[0][0] <= now:
            _, request_id = heapq.heappop(self._unsettled)
            record = self.accepted[request_id]
            if math.isfinite(record.finished_at):
                self._spent += record.cost
