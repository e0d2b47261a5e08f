"""An event loop whose time is virtual: where nothing is ready, it leaps to the next timer.

It has no sockets and no threads, so what happens in a night follows from its seed alone. A life can be
ended between any two of its steps, as SIGKILL would. While the computer sleeps time passes and no timer
fires; the loop's own clock stands still for as long, as the real one's does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any

LONGEST_LIFE_S = 12 * 3600.0
MOST_STEPS = 60_000


class Killed(SystemExit):
    """The process dies here. A SystemExit, because asyncio lets nothing else out of a task at once."""


class Stuck(Exception):
    """The run neither ends nor goes on."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one life from `start` (virtual seconds); dies before its `dies_at_step`-th step.

    `sleeps`: when the computer goes to sleep, in seconds since the start, and for how long.
    """

    def __init__(
        self,
        start: float,
        dies_at_step: int | None = None,
        sleeps: tuple[tuple[float, float], ...] = (),
    ) -> None:
        super().__init__()
        self._selector = _Leap(self)
        self._awake = start
        self._slept_s = 0.0
        self._sleeps = sorted((start + after_s, long_s) for after_s, long_s in sleeps)
        self.ends = start + LONGEST_LIFE_S + sum(long_s for _, long_s in sleeps)
        self.steps = 0
        self.dies_at_step = dies_at_step
        self._life: asyncio.Task[Any] | None = None

    def time(self) -> float:
        """Virtual seconds since the night began, without those that were slept through."""
        return self._awake

    @property
    def now(self) -> float:
        """True time: virtual seconds since the night began."""
        return self._awake + self._slept_s

    def pass_time(self, seconds: float) -> None:
        """Leaps forward by so many seconds awake, and through the sleeps that begin in them."""
        self._awake += seconds
        while self._sleeps and self._sleeps[0][0] <= self.now:
            self._slept_s += self._sleeps.pop(0)[1]

    def asleep_s(self, until: float) -> float:
        """How long the computer is going to sleep before `until`."""
        return sum(long_s for at, long_s in self._sleeps if at < until)

    def live(self, life: Coroutine[Any, Any, Any]) -> bool:
        """Runs a life to its end; False when it was killed. Raises what the life raises, or Stuck."""
        self._life = task = self.create_task(life)
        task.add_done_callback(self._ended)
        try:
            self.run_forever()
        except Killed:
            return False
        finally:
            task.remove_done_callback(self._ended)
        task.result()
        return True

    def bury(self) -> None:
        """Ends what a dead life left behind. Ledger and server must refuse everything by now."""
        self.dies_at_step = None
        self.ends = float("inf")
        self.steps = 0
        while left := asyncio.all_tasks(self):
            for task in left:
                # One that has not begun would leave a coroutine behind that nobody awaits.
                if getcoroutinestate(task.get_coro()) != CORO_CREATED:  # type: ignore[arg-type]
                    task.cancel()
            try:
                self.run_until_complete(asyncio.sleep(0))
            except Killed:
                continue
            finally:
                for task in left:
                    _forget_error(task)
        if self._life is not None:
            _forget_error(self._life)
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _ended(self, _: asyncio.Task[Any]) -> None:
        self.stop()

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at_step:
            raise Killed
        if self.steps > MOST_STEPS:
            raise Stuck(f"{MOST_STEPS:,} steps at {self.now:.0f} s")
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _Leap:
    """Takes the selector's place: nobody waits for sockets here, only for time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is under way and no timer is set")
        self._loop.pass_time(timeout)
        if self._loop.now > self._loop.ends:
            raise Stuck(f"the life goes on after {LONGEST_LIFE_S / 3600:.0f} hours")
        return []

    def close(self) -> None:
        pass


def _forget_error(task: asyncio.Task[Any]) -> None:
    if task.done() and not task.cancelled():
        task.exception()
