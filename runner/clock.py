"""What time it is: by our own clock, which never jumps within a run, and by the server's, as far as it tells.

What happens in a run is timed by the steady clock alone. What must hold from one run to the next is
kept in the server's time, for our own clock may be set in between.
"""

from __future__ import annotations

import time

# The `Date` header names whole seconds; what is left of one is cut off.
DATE_STEP_S = 1.0
# An answer that was under way for longer says too little: rows of the history are told apart by less.
WIDEST_S = 20.0
# Linux has a clock that counts suspend as well; what others call monotonic does so by itself.
_STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def steady_s() -> float:
    """Seconds from no particular start, which nobody can set; a computer that sleeps counts on."""
    return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)


class ServerTime:
    """The server's clock beside ours: how far ahead it is, between two bounds.

    All times are epoch seconds; `at` is one of our own steady clock. What is not known is None.
    """

    def __init__(self) -> None:
        self._ahead_s: tuple[float, float] | None = None

    @property
    def is_known(self) -> bool:
        """Whether any answer has told the server's time."""
        return self._ahead_s is not None

    def hear(self, date: float | None, at: float, seconds: float) -> None:
        """An answer that came at `at`, `seconds` after its request, was dated `date`."""
        if date is None:
            return
        low, high = date - at, date + DATE_STEP_S - (at - seconds)
        if high - low > WIDEST_S:
            return
        if self._ahead_s is not None:
            both = max(low, self._ahead_s[0]), min(high, self._ahead_s[1])
            # Where no difference fits both, one of the clocks was set: the newer answer tells.
            if both[0] <= both[1]:
                low, high = both
        self._ahead_s = low, high

    def earliest(self, at: float) -> float | None:
        """The server's time at `at`, or a little before it."""
        return None if self._ahead_s is None else at + self._ahead_s[0]

    def latest(self, at: float) -> float | None:
        """The server's time at `at`, or a little after it."""
        return None if self._ahead_s is None else at + self._ahead_s[1]

    def ours(self, server_at: float) -> float | None:
        """When it was by our clock, or a little after it: nothing is over too soon by this."""
        return None if self._ahead_s is None else server_at - self._ahead_s[0]


class Clock:
    """The clocks of one run, in seconds; a simulation brings its own three."""

    def __init__(self) -> None:
        self.server = ServerTime()
        self._origin: float | None = None

    def wall(self) -> float:
        """Epoch time, which may be set at any moment."""
        return time.time()

    def monotonic(self) -> float:
        """The event loop's time, which stands still while the computer sleeps."""
        return time.monotonic()

    def steady(self) -> float:
        """Time that only goes forward and never stands still."""
        return steady_s()

    def now(self) -> float:
        """Epoch seconds as the run began with them: whatever happens to the wall clock, it goes on evenly."""
        if self._origin is None:
            self._origin = self.wall() - self.steady()
        return self._origin + self.steady()
