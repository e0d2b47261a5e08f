"""Work on files is through before whoever asked for it goes on, however they are cancelled."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import anyio
import pytest

from runner.disk import let_go, on_disk


class Slow:
    """A piece of work that takes a while."""

    def __init__(self) -> None:
        self.done = False

    def work(self) -> str:
        time.sleep(0.2)
        self.done = True
        return "through"

    def fail(self) -> None:
        time.sleep(0.2)
        raise OSError("the disk is full")


@pytest.fixture
def slow() -> Slow:
    return Slow()


async def test_a_caller_in_a_cancelled_scope_has_its_value_and_is_stopped_after_that(
    slow: Slow,
) -> None:
    values: list[str] = []
    with anyio.move_on_after(0.05):
        values.append(await on_disk(slow.work))
        await anyio.sleep(1)
        values.append("went on")
    assert values == ["through"]
    let_go()


async def test_a_task_that_is_cancelled_by_itself_waits_as_well(slow: Slow) -> None:
    task = asyncio.ensure_future(on_disk(slow.work))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.done
    let_go()


async def test_a_failure_that_nobody_waits_for_any_more_complains_to_nobody(slow: Slow) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    task = asyncio.ensure_future(on_disk(slow.fail))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert complaints == []
    let_go()
