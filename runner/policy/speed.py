"""Tells a line that is slow from one that only pretends to bring something."""

from __future__ import annotations


class Speed:
    """Measures in windows: less than `slowest_bytes_s` throughout one of `window_s` is too slow.

    A drip keeps every timeout quiet, for something always comes.
    """

    def __init__(self, slowest_bytes_s: float, window_s: float, now: float) -> None:
        self._slowest_bytes_s = slowest_bytes_s
        self._window_s = window_s
        self.restart(now)

    def restart(self, now: float) -> None:
        """Measures from here on: what passed until now was not the line's fault."""
        self._since, self._came_bytes = now, 0

    def objection(self, count_bytes: int, now: float) -> str | None:
        """So many bytes came just now; says what is wrong when they come too slowly."""
        self._came_bytes += count_bytes
        seconds = now - self._since
        if seconds < self._window_s:
            return None
        came_bytes = self._came_bytes
        self.restart(now)
        if came_bytes >= self._slowest_bytes_s * seconds:
            return None
        return f"it comes too slowly: {came_bytes:,} bytes in {seconds:.3g} seconds"
