"""What the sandbox saw: counters for all requests, details for the most recent ones."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from runner.sandbox.book import Book

KEPT = 200_000
# What was on its way when a 429 was sent did not know of it.
ON_ITS_WAY_S = 0.5
NO_ANSWER = 0
"""The status of a request whose connection was dropped."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it came, what it asked for and what it was answered (0: nothing)."""

    time: float
    method: str
    path: str
    route: str
    status: int
    request_id: str | None
    has_key: bool


class RequestLog:
    """Remembers requests, and every one that carried a key where no key belongs."""

    def __init__(self) -> None:
        self.recent: deque[Seen] = deque(maxlen=KEPT)
        self.key_leaks: list[str] = []
        self.during_hold = 0
        self._counts: Counter[tuple[str, int]] = Counter()
        self._hold = (0.0, 0.0)

    def rate_limited(self, now: float, until: float) -> None:
        """A 429 tells that nothing is let in before `until`."""
        began = self._hold[0] if now < self._hold[1] else now
        self._hold = (began, max(until, self._hold[1]))

    def arrived(self, now: float) -> None:
        """A request that counts against the rate has come, perhaps against the word of a 429."""
        self.during_hold += self._hold[0] + ON_ITS_WAY_S < now < self._hold[1]

    def add(self, seen: Seen) -> None:
        """Count and keep one request."""
        self.recent.append(seen)
        self._counts[seen.route, seen.status] += 1

    def stats(self, book: Book) -> dict[str, Any]:
        """The sums as `GET /sandbox/stats` tells them."""
        by_route: dict[str, dict[str, int]] = {}
        for (route, status), count in sorted(self._counts.items()):
            by_route.setdefault(route, {})[str(status)] = count
        return {
            "accepted": len(book.accepted),
            "accepted_by_body": dict(book.accepted_by_body),
            "max_per_body": max(book.accepted_by_body.values(), default=0),
            "requests": by_route,
            "during_hold": self.during_hold,
            "key_leaks": len(self.key_leaks),
        }
