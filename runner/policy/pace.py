"""When the account's rate allows the next request: a sliding window and a hold after a 429."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from runner.job import Answer

WINDOW_S = 60.0
# A reset further away than this is a misread header and not a rate window.
LONGEST_HOLD_S = 3600.0
SHORTEST_HOLD_S = 1.0
# The window is measured where requests arrive, and they do not all travel equally long.
SLACK_S = 0.5


class Pace:
    """At most `rpm` requests in any 60 s, or no bound where it is unknown, and none while held.

    A window that slides over the client's own log never overruns the server's, whether that
    slides too or is fixed and however it is aligned. Times are seconds of one clock.
    """

    def __init__(self, rpm: int | None = None) -> None:
        self.rpm = rpm
        self.held_until = 0.0
        self._sent: deque[float] = deque()

    def wait_s(self, now: float) -> float:
        """Seconds until a request may leave; 0 when it may leave at once."""
        wait_s = self.held_until - now
        if self.rpm is not None and len(self._sent) >= self.rpm:
            wait_s = max(wait_s, self._sent[0] + WINDOW_S + SLACK_S - now)
        return max(0.0, wait_s)

    def take(self, now: float) -> None:
        """Counts a request that leaves now."""
        if self.rpm is None:
            return
        self._sent.append(now)
        while len(self._sent) > self.rpm:
            self._sent.popleft()

    def hold(self, until: float) -> bool:
        """Lets nothing leave before `until`; says whether that is later than it was."""
        if until <= self.held_until:
            return False
        self.held_until = until
        return True


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
