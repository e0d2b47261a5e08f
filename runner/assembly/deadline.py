"""Keeps a run to its deadline: no submit that could not be collected, and an end when it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import anyio

from runner.assembly.control import Stoppable
from runner.events import Event, Moved
from runner.ledger import Ledger
from runner.ledger.reading import pending_by_model, recent_latencies
from runner.policy.curfew import Curfew, Deadline, no_submits_words

# Also how soon a clock that was set, or a computer that slept, is noticed.
LOOK_EVERY_S = 1.0


class DeadlineWatch:
    """Drains the engine when the last submit has to leave, and stops it at the deadline."""

    def __init__(
        self, deadline: Deadline, curfew: Curfew, clock: Callable[[], float] = time.time
    ) -> None:
        self._deadline = deadline
        self._curfew = curfew
        self._clock = clock

    def see(self, event: Event) -> None:
        """Learns from the moves of jobs how long they are on their way."""
        if isinstance(event, Moved):
            self._curfew.see(event, self._clock())

    async def accompany(self, engine: Stoppable) -> None:
        """Returns when the run has been stopped."""
        while (now := self._clock()) < (last := self._curfew.last_submit(now)):
            await self._sleep(last - now)
        engine.drain(no_submits_words(self._deadline, now))
        while (now := self._clock()) < self._deadline.at:
            await self._sleep(self._deadline.at - now)
        engine.stop(f"{self._deadline.words}: the time is over")

    async def _sleep(self, seconds: float) -> None:
        await anyio.sleep(min(seconds, LOOK_EVERY_S))


async def deadline_watch(
    ledger: Ledger, deadline: Deadline, manifests: Sequence[int], drain_s: float
) -> DeadlineWatch:
    """A watch that knows what the ledger remembers; `drain_s` is how long a drain may last."""
    curfew = Curfew(
        deadline.at,
        time.time(),
        known=await recent_latencies(ledger),
        pending=await pending_by_model(ledger, manifests),
        longest_s=drain_s,
    )
    return DeadlineWatch(deadline, curfew)
