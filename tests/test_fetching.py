"""The loop that fetches files: never more than its share, never idle for nothing, nothing forgotten."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from runner.engine import fetching, queues
from runner.engine.fetching import Fetching
from runner.job import State, StepResult

SAVED, NOT_WHOLE = StepResult(State.SAVED), StepResult(State.COMPLETED)


class Desk:
    """A loop over stand-ins: a ledger with some completed jobs, and downloads that take a moment."""

    def __init__(self, keys: Sequence[int], seconds: float, report_s: float = 0.0) -> None:
        self.keys, self.seconds, self.report_s = keys, seconds, report_s
        self.broken: dict[int, int] = {}
        self.active = self.most = self.looks = self.idle = 0
        self.saved: list[int] = []
        self.fetching = Fetching(self, self, self, 3, self.report)  # type: ignore[arg-type]
        wait = self.fetching._bell.wait

        async def counted(timeout_s: float | None = None) -> None:
            self.looks += 1
            await wait(timeout_s)

        self.fetching._bell.wait = counted  # type: ignore[method-assign]

    def now(self) -> float:
        return time.monotonic()

    async def completed_keys(self, after: int, limit: int) -> list[int]:
        return [key for key in self.keys if key > after][:limit]

    async def save(self, key: int, last: bool) -> tuple[Any, StepResult]:
        self.active += 1
        self.most = max(self.most, self.active)
        await anyio.sleep(self.seconds)
        self.active -= 1
        if self.broken.get(key, 0) > 0:
            self.broken[key] -= 1
            return key, NOT_WHOLE
        self.saved.append(key)
        return key, SAVED

    async def report(self, *_: Any) -> None:
        self.fetching._bell.ring()
        await anyio.sleep(self.report_s)

    def went_idle(self) -> None:
        self.idle += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.fetching.run, group, self.went_idle)
            yield
            group.cancel_scope.cancel()

    async def until(self, reached: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not reached():  # noqa: ASYNC110  stand-ins tell nobody
                await anyio.sleep(0.005)


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "AT_ONCE", 4)
    monkeypatch.setattr(queues, "full_jitter", lambda *_, **__: 0.05)


async def test_everything_is_fetched_with_so_many_at_once_and_no_more() -> None:
    desk = Desk(range(1, 60), 0.002, report_s=0.003)
    async with desk.running():
        await desk.until(lambda: desk.idle > 0)
    assert sorted(desk.saved) == list(range(1, 60))
    assert desk.most == 4


async def test_a_full_house_waits_quietly_although_a_file_is_due_again() -> None:
    desk = Desk((), 0.001)
    desk.broken = {1: 1}
    async with desk.running():
        desk.fetching.add(1)
        await desk.until(lambda: not desk.broken[1])
        desk.seconds = 0.3
        for key in range(2, 6):
            desk.fetching.add(key)
        await desk.until(lambda: desk.active == 4)
        before = desk.looks
        await anyio.sleep(0.2)
        assert desk.looks - before <= 1
        await desk.until(lambda: desk.idle > 0)
    assert sorted(desk.saved) == [1, 2, 3, 4, 5]


async def test_a_file_that_did_not_come_whole_is_tried_again_and_then_given_up() -> None:
    desk = Desk((1, 2), 0.001)
    desk.broken = {1: 2, 2: 9}
    async with desk.running():
        await desk.until(lambda: desk.fetching.idle)
    assert desk.saved == [1]
    assert desk.broken == {1: 0, 2: 6}
