"""Those who go along with a run beside its engine: they see its events, and some may end it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio

from runner.assembly.control import Stoppable
from runner.errors import first_error
from runner.events import Ending, Event, Observer


class Companion(Protocol):
    """Goes along with one run."""

    def see(self, event: Event) -> None:
        """Takes an event in; never raises into the run."""

    async def accompany(self, engine: Stoppable) -> None:
        """Works beside the engine; cancelled when that has ended."""


TakeControl = Callable[[Stoppable], None]
Work = Callable[[Observer, TakeControl], Awaitable[Ending]]


async def accompanied(
    work: Work, see: Observer, control: TakeControl, companions: Sequence[Companion]
) -> Ending:
    """Does the work with everybody around it; `see` is told before the companions are."""

    def tell(event: Event) -> None:
        see(event)
        for companion in companions:
            companion.see(event)

    ending = Ending()
    try:
        async with anyio.create_task_group() as group:

            def take(engine: Stoppable) -> None:
                control(engine)
                for companion in companions:
                    group.start_soon(companion.accompany, engine)

            ending = await work(tell, take)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors
    return ending
