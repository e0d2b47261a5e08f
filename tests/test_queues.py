"""What waits to be sent: nothing is forgotten, and nothing is given out twice at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from ledgers import NOW, StillGovernor, bring, get, job, plan

from runner.engine.queues import Pending
from runner.job import State
from runner.ledger import Event, Ledger, Record

MANIFEST = 1


class Watched(Ledger):
    """A ledger that lets something happen while it is asked for what was put off."""

    meanwhile: Callable[[], None] | None = None

    async def next_postponed(self, manifests: object, now: float) -> float | None:
        found = await super().next_postponed(manifests, now)  # type: ignore[arg-type]
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
        return found


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Watched]:
    async with await Watched.open(tmp_path / "runner.db", durable=False) as opened:
        await plan(opened, [job(number) for number in range(3)])
        yield opened  # type: ignore[misc]


@pytest.fixture
def pending(ledger: Watched) -> Pending:
    governor = StillGovernor()
    governor.time = NOW
    return Pending(ledger, governor, [MANIFEST])


async def taken(pending: Pending) -> list[str]:
    """All jobs that are due, as they are given out."""
    found: list[Record] = []
    while record := await pending.next(()):
        found.append(record)
    return [record.id for record in found]


async def test_each_job_is_given_out_once_and_in_order(pending: Pending):
    assert await taken(pending) == ["j0", "j1", "j2"]
    assert pending.next_at is None


async def test_a_job_that_comes_back_while_the_last_page_is_read_is_not_forgotten(
    pending: Pending, ledger: Watched
):
    ledger.meanwhile = pending.look_again
    await pending.next(())
    assert ledger.meanwhile is None
    assert pending.next_at is not None


async def test_a_job_that_is_being_sent_is_not_given_out_again(pending: Pending):
    first = await pending.next(())
    assert first is not None
    # Another one comes back from doubt, before the intent to send this one is committed.
    pending.look_again()
    assert await taken(pending) == ["j1", "j2"]


async def test_a_job_that_was_sent_since_the_page_was_read_is_not_given_out_again(
    pending: Pending, ledger: Watched
):
    first = await pending.next(())
    assert first is not None
    pending.look_again()
    second = await pending.next(())
    assert second is not None
    await bring(ledger, State.SUBMITTED, first.id)
    pending.ended(first.key)
    assert [first.id, second.id, *await taken(pending)] == ["j0", "j1", "j2"]


async def test_a_job_that_was_put_off_and_is_on_the_page_as_well_is_given_out_once(
    pending: Pending, ledger: Watched
):
    first = await pending.next(())
    assert first is not None
    pending.ended(first.key)
    pending.look_again()
    second = await pending.next(())
    assert second is not None
    third = await get(ledger, "j2")
    pending.put_off(third.key, NOW)
    assert [second.id, *await taken(pending)] == ["j0", "j2", "j1"]
    await bring(ledger, State.SUBMITTED, "j2")
    pending.ended(third.key)
    assert await taken(pending) == []


async def test_a_job_whose_sending_has_ended_may_be_given_out_again(
    pending: Pending, ledger: Watched
):
    assert await taken(pending) == ["j0", "j1", "j2"]
    pending.ended((await get(ledger, "j1")).key)
    pending.look_again()
    assert await taken(pending) == ["j1"]


async def test_a_job_that_was_put_off_is_given_out_at_its_time(pending: Pending, ledger: Watched):
    assert await taken(pending) == ["j0", "j1", "j2"]
    record = await bring(ledger, State.IN_DOUBT, "j1")
    await ledger.requeue(record, Event(NOW, detail="it was never accepted"))
    pending.put_off(record.key, NOW)
    pending.ended(record.key)
    assert await taken(pending) == ["j1"]


async def test_a_job_that_was_put_off_twice_is_given_out_once(pending: Pending, ledger: Watched):
    assert await taken(pending) == ["j0", "j1", "j2"]
    key = (await get(ledger, "j1")).key
    pending.ended(key)
    pending.put_off(key, NOW)
    pending.put_off(key, NOW)
    assert await taken(pending) == ["j1"]
