"""When the account's rate allows the next request: a sliding window and a hold after a 429."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
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
