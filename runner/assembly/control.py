"""How a run is told to end: the engine's ways, once there is one, and what comes before it until then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import anyio


class Stoppable(Protocol):
    """An engine, as far as ending it is concerned."""

    def drain(self, reason: str) -> None:
        """No new submits; what is in flight is finished."""

    def halt(self, reason: str) -> None:
        """Sends nothing more; answers under way and downloads are still taken in."""

    def stop(self, reason: str) -> None:
        """Ends at once."""

    def is_draining(self) -> bool:
        """Whether no new job is sent any more."""


@dataclass(slots=True)
class Control:
    """What ends a run from outside. `start` is the scope of everything before the engine runs.

    `times_asked`: how often it was told to end, once for draining and more for impatience.
    """

    engine: Stoppable | None = None
    start: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    times_asked: int = 0
    _asked: str | None = None

    def is_draining(self) -> bool:
        """Whether the run is on its way to its end by itself, so that it can only be stopped."""
        return self.engine is not None and self.engine.is_draining()

    def take(self, engine: Stoppable) -> None:
        """From here on it is the engine that ends; it was asked to already if that came just before."""
        self.engine = engine
        if self._asked is not None:
            engine.drain(self._asked)

    def drain(self, reason: str) -> None:
        """No new submits; what is in flight is finished. Before the engine runs: ends at once."""
        self._end(reason, lambda engine: engine.drain(reason))

    def halt(self, reason: str) -> None:
        """Sends nothing more; answers under way are taken in, in flight stays what is in flight."""
        self._end(reason, lambda engine: engine.halt(reason))

    def stop(self, reason: str) -> None:
        """Ends at once."""
        self._end(reason, lambda engine: engine.stop(reason))

    def _end(self, reason: str, way: Callable[[Stoppable], None]) -> None:
        self.times_asked += 1
        self._asked = reason
        if self.engine is None:
            self.start.cancel()
        else:
            way(self.engine)
