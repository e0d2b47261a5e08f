"""When the account's rate allows the next request: given or learned, and a hold after a 429.

Learned from 429s: what the server took between the start of its window, which the reset time tells,
and its first refusal is the limit, or as much of it as others on the account leave. From there on a
little more is tried for, the more seldom the more often in vain. What a refusal takes away comes back
by equal steps, what is given up is given up in proportion: so clients of one account come to share it.

Source: D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion
Avoidance", 1989; slow start as in RFC 5681.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf

from runner.job import Answer

WINDOW_S = 60.0
# A reset further away than this is a misread header and not a rate window.
LONGEST_HOLD_S = 3600.0
SHORTEST_HOLD_S = 1.0
# The window is measured where requests arrive, and they do not all travel equally long.
SLACK_S = 0.5
# This share of the rate may leave at once; the rest flows evenly.
BURST_SHARE = 0.7
# Without a known rate: so many requests at once, then a flow that grows by e every so many seconds.
FIRST_BURST = 20
FIRST_RPM = 240.0
GROWTH_S = 6.0
# A limit found again within this share is the account's own, and not what somebody else leaves of it.
SAME_SHARE = 0.05
SHARED_DECREASE = 0.1
STEP_SHARE = 0.02
LONGEST_PATIENCE = 8
# A reset time may be rounded up to the second, and requests travel.
COARSE_S = 1.3
# What was learned longer ago than this is tried out from half of it on.
FRESH_S = 7 * 24 * 3600.0


@dataclass(slots=True)
class _Refusal:
    """429s of requests that had left before the first of them was noticed, and what was so before."""

    noticed: float
    sent: float
    limit: float | None
    peak: float
    patience: int
    tries: int
    times: int = 0


class Pace:
    """At most `rpm` requests in any 60 s, or as many as 429s show to be allowed; none while held.

    A window that slides over the client's own log never overruns the server's, whether that
    slides too or is fixed and however it is aligned. Times are seconds of one clock.
    `remembered`: what `remembered()` gave in an earlier run; `at`: the epoch time it is now.
    """

    def __init__(
        self,
        rpm: float | None = None,
        remembered: Mapping[str, float] | None = None,
        at: float = 0.0,
    ) -> None:
        self.held_until = 0.0
        self._given = rpm
        self._limit = rpm
        self._peak = rpm or 0.0
        self._flow_rpm = FIRST_RPM
        self._sent: deque[float] = deque()
        self._began: float | None = None
        self._full_at = 0.0
        self._waited = False
        self._changed = 0.0
        self._patience = 1
        self._tries = 0
        self._refusal: _Refusal | None = None
        if rpm is None and remembered and (known := remembered.get("rpm", 0.0)) >= 1:
            if at - remembered.get("at", 0.0) <= FRESH_S:
                self._limit = self._peak = known
            else:
                self._flow_rpm = max(FIRST_RPM, known / 2)

    @property
    def rpm(self) -> float | None:
        """The requests a minute that are allowed, as far as known."""
        return self._limit

    def wait_s(self, now: float) -> float:
        """Seconds until a request may leave; 0 when it may leave at once."""
        interval_s, burst = self._flow()
        wait_s = self._full_at - (burst - 1) * interval_s - now
        if self._limit is not None and len(self._sent) >= (most := max(1, int(self._limit))):
            wait_s = max(wait_s, self._sent[-most] + WINDOW_S + SLACK_S - now)
        # Less than this is no time but the last digit of a sum.
        wait_s = 0.0 if wait_s < 1e-6 else wait_s
        self._waited = self._waited or wait_s > 0
        return max(wait_s, self.held_until - now, 0.0)

    def take(self, now: float) -> None:
        """Counts a request that leaves now."""
        self._began = now if self._began is None else self._began
        self._full_at = max(self._full_at, now) + self._flow()[0]
        self._sent.append(now)
        while self._sent[0] < now - 2 * WINDOW_S:
            self._sent.popleft()
        if self._limit is not None:
            self._try_more(now)
        elif self._waited:
            self._flow_rpm += WINDOW_S / GROWTH_S
        self._waited = False

    def hold(self, until: float) -> bool:
        """Lets nothing leave before `until`; says whether that is later than it was."""
        if until <= self.held_until:
            return False
        self.held_until = until
        return True

    def refused(self, now: float, until: float, left: float | None = None) -> None:
        """A 429 came now, for a request that left at `left`, in a window that ends at `until`.

        Requests that had left before the first refusal was noticed are refused with it.
        """
        start = until - WINDOW_S - COARSE_S
        if self._began is not None and start + 2 * COARSE_S < self._began:
            # The window began before we did: what an earlier run used of it is not in our log.
            return
        if self._refusal is None or (now if left is None else left) > self._refusal.noticed:
            window = sum(start < time for time in self._sent)
            minute = sum(now - WINDOW_S < time for time in self._sent)
            # A minute touches at most two windows; a reset that is not told says nothing of the start.
            sent = max(window, minute / 2) if window else minute
            self._refusal = _Refusal(
                now, sent, self._limit, self._peak, self._patience, self._tries
            )
        self._refusal.times += 1
        self._judge(self._refusal)

    def remembered(self, at: float) -> dict[str, float]:
        """What was learned, for the pace of a later run; `at`: the epoch time it is now. Plain JSON."""
        if self._given is not None or self._limit is None:
            return {}
        return {"rpm": round(self._limit, 1), "at": at}

    def _flow(self) -> tuple[float, int]:
        """Seconds between requests that flow evenly, and how many may leave at once."""
        if self._limit is None:
            return WINDOW_S / self._flow_rpm, FIRST_BURST
        return WINDOW_S / self._limit, max(1, int(BURST_SHARE * self._limit))

    def _judge(self, refusal: _Refusal) -> None:
        """What the server took in its window before it refused is the limit."""
        taken = refusal.sent - refusal.times
        if taken < 1:
            return
        if refusal.limit is not None:
            taken = min(taken, refusal.limit - 1)
        alone = taken >= refusal.peak - max(1.0, SAME_SHARE * refusal.peak)
        self._peak = taken if alone else max(taken, refusal.peak + (taken - refusal.peak) / 4)
        limit = taken if alone else taken * (1 - SHARED_DECREASE)
        if refusal.limit is not None and taken < refusal.limit / 2:
            # So few were sent that they tell little of the limit: somebody else's day, or a whim.
            limit = max(limit, refusal.limit / 2)
        self._limit = max(1.0, limit)
        again_in_vain = alone and refusal.tries
        self._patience = min(2 * refusal.patience, LONGEST_PATIENCE) if again_in_vain else 1
        self._tries, self._changed = 0, refusal.noticed

    def _try_more(self, now: float) -> None:
        """Raises the limit a little, once it has been used up for long enough without a refusal."""
        limit, ceiling = self._limit or 1.0, self._given or inf
        most = max(1, int(limit * (1 - SAME_SHARE)))
        below = limit < self._peak * (1 - SAME_SHARE)
        patience_s = WINDOW_S * (1 if below or self._tries else self._patience)
        if limit >= ceiling or now - self._changed < patience_s:
            return
        if len(self._sent) < most or self._sent[-most] < now - WINDOW_S - SLACK_S:
            return
        step = max(1.0, STEP_SHARE * max(limit, self._peak) * 2**self._tries)
        self._tries += not below
        self._peak = max(self._peak, limit)
        self._limit = min(limit + step, ceiling)
        self._changed = now


def hold_until(answer: Answer, now: float) -> float:
    """When a 429 lets requests out again, in epoch seconds of the local clock, without jitter.

    `Retry-After` in seconds or as a date; the reset header in epoch seconds or milliseconds, seconds
    from now, ISO 8601 or an HTTP date. Without either a whole window is waited out.
    """
    # The server speaks of its own clock; its Date header says how far that is from ours.
    skew_s = answer.server_time - now if answer.server_time is not None else 0.0
    times = [_moment(text, now, skew_s) for text in (answer.retry_after, answer.reset)]
    known = [time for time in times if time is not None]
    until = max(known) if known else now + WINDOW_S
    return min(max(until, now + SHORTEST_HOLD_S), now + LONGEST_HOLD_S)


def _moment(text: str | None, now: float, skew_s: float) -> float | None:
    text = (text or "").strip()
    try:
        number = float(text)
    except ValueError:
        stamp = _date(text)
        return None if stamp is None else stamp - skew_s
    if not 0 <= number < 1e15:
        return None
    if number >= 1e11:
        return number / 1000 - skew_s
    return number - skew_s if number >= 1e9 else now + number


def _date(text: str) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            stamp = parse(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    return None
