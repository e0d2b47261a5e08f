"""The ledger's verbs: durable, compared before they are set, and honest about what did not happen."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import closing as closing_file
from pathlib import Path
from typing import Any

import anyio
import pytest
from ledgers import HOUR_S, NOW, bring, column, get, job, picture, plan, sql

from runner.errors import LedgerBusy, LedgerError, LedgerTooNew, LedgerUnreadable, RunnerError
from runner.job import RETRYABLE_STATES, TRANSITIONS, Answer, SavedFile, State
from runner.ledger import (
    Event,
    Ledger,
    inputs_queries,
    planning_queries,
    queries,
    reading_queries,
    showing_queries,
)
from runner.ledger.connection import BATCH_LIMIT, Gathering, Write, transaction
from runner.ledger.ledger import DETAIL_LIMIT
from runner.ledger.reading import (
    PAGE,
    ModelHistory,
    Selection,
    attempts,
    causes,
    count_selected,
    counts,
    listed,
    manifest_names,
    model_history,
    next_deadline,
    retry,
    saved_files,
)
from runner.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION

EVENT = Event(NOW, 200)


async def files_of(ledger: Ledger, key: int) -> list[SavedFile]:
    return [SavedFile(*row) for row in await sql(ledger, queries.FILES.replace(":job", "?"), key)]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as ledger:
        await plan(ledger, [job(number) for number in range(5)])
        yield ledger


async def actions(ledger: Ledger, job_id: str = "j0") -> list[str]:
    return [a.action for a in await attempts(ledger, (await get(ledger, job_id)).key)]


# The way of a job


async def test_a_new_job_is_pending_and_was_never_sent(ledger: Ledger):
    record = await get(ledger)
    assert (record.state, record.posts, record.refusals) == (State.PENDING, 0, 0)
    assert record.request_id is record.submitted_at is record.deadline is None
    assert record.params == {"prompt": "prompt 0"}
    assert (record.manifest, record.model, record.index) == ("m", "imagen", 0)


async def test_the_intent_counts_a_post_and_sets_the_hour(ledger: Ledger):
    record = await get(ledger)
    assert await ledger.begin_submit(record, NOW, NOW + HOUR_S)
    record = await get(ledger)
    assert (record.state, record.posts) == (State.SUBMITTING, 1)
    assert (record.submitted_at, record.deadline) == (NOW, NOW + HOUR_S)


async def test_an_accepted_job_has_its_request_id_in_job_and_history(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.accept(record, "r-1", EVENT)
    record = await get(ledger)
    assert (record.state, record.request_id) == (State.SUBMITTED, "r-1")
    assert (await attempts(ledger, record.key))[-1].request_id == "r-1"
    assert await ledger.known_ids(["r-1", "r-2"]) == {"r-1"}


async def test_a_completed_job_keeps_its_result(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTED)
    assert await ledger.complete(record, '{"output":"ü"}', Event(NOW + 9), 0.02)
    done = await ledger.completed(record.key)
    assert done is not None
    assert (done[0].state, done[1]) == (State.COMPLETED, '{"output":"ü"}')
    assert await column(ledger, "completed_at") == NOW + 9
    assert await column(ledger, "cost") == 0.02


async def test_a_saved_job_has_exactly_the_files_of_the_last_save(ledger: Ledger):
    record = await bring(ledger, State.COMPLETED)
    assert await ledger.save(record, [picture(0, "a.png"), picture(1, "b.png")], EVENT)
    assert await ledger.reopen(record.key, NOW, "a.png is gone")
    record = await get(ledger)
    assert record.state is State.COMPLETED
    assert await ledger.save(record, [picture(0, "c.png")], EVENT)
    assert await files_of(ledger, record.key) == [picture(0, "c.png")]
    assert not await ledger.path_is_taken("b.png", 0)
    assert await ledger.path_is_taken("c.png", 0)
    assert not await ledger.path_is_taken("c.png", record.key)


async def test_every_step_is_written_into_the_history(ledger: Ledger):
    await bring(ledger, State.SAVED)
    assert await actions(ledger) == ["submitting", "submitted", "completed", "saved"]
    first, *_, last = await attempts(ledger, (await get(ledger)).key)
    assert (first.at, last.at) == (NOW, NOW + 20)


async def test_a_refusal_is_counted_and_waits(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.refuse(record, NOW + 5, Event(NOW, 503, "overloaded"))
    record = await get(ledger)
    assert (record.state, record.refusals, record.posts) == (State.PENDING, 1, 1)
    assert record.submitted_at is record.deadline is None
    assert await column(ledger, "error") == "overloaded"
    manifest = await column(ledger, "manifest_key")
    assert "j0" not in [r.id for r in await ledger.pending(manifest, 0, 9, NOW + 4)]
    assert "j0" in [r.id for r in await ledger.pending(manifest, 0, 9, NOW + 5)]
    assert await ledger.next_postponed([manifest], NOW) == NOW + 5
    assert await ledger.next_postponed([manifest], NOW + 5) is None


async def test_a_held_rate_uses_up_no_attempt(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.refuse(record, NOW, Event(NOW, 429), counted=False)
    record = await get(ledger)
    assert (record.refusals, record.posts) == (0, 1)


async def test_what_never_left_was_never_posted(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.unsend(record, NOW, Event(NOW, detail="no route"))
    record = await get(ledger)
    assert (record.state, record.posts, record.refusals) == (State.PENDING, 0, 0)


async def test_doubt_keeps_what_is_known_of_the_post(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.doubt(record, Event(NOW, detail="reset"))
    [doubtful] = await ledger.in_doubt()
    assert (doubtful.id, doubtful.posts, doubtful.submitted_at) == ("j0", 1, NOW)


async def test_a_doubt_is_resolved_by_the_id_from_the_history(ledger: Ledger):
    record = await bring(ledger, State.IN_DOUBT)
    found = Event(NOW, detail="found", request_id="r-9")
    assert await ledger.find(record, NOW - 60, NOW + 3540, found)
    record = await get(ledger)
    assert (record.state, record.request_id) == (State.SUBMITTED, "r-9")
    assert (record.submitted_at, record.deadline) == (NOW - 60, NOW + 3540)


@pytest.mark.parametrize("state", [State.IN_DOUBT, State.EXPIRED])
async def test_a_job_put_back_to_the_queue_forgets_the_request(ledger: Ledger, state: State):
    record = await bring(ledger, state)
    assert await ledger.requeue(record, Event(NOW, detail="the history has none"))
    record = await get(ledger)
    assert (record.state, record.request_id, record.deadline) == (State.PENDING, None, None)
    assert record.posts == 1


@pytest.mark.parametrize(
    "state", [State.FAILED, State.BLOCKED, State.INVALID, State.EXPIRED, State.IN_DOUBT]
)
async def test_an_end_says_why(ledger: Ledger, state: State):
    await bring(ledger, state)
    assert await column(ledger, "error") == f"it is {state}"
    assert (await actions(ledger))[-1] == state


async def test_an_explanation_changes_no_state(ledger: Ledger):
    record = await bring(ledger, State.COMPLETED)
    assert await ledger.explain(record, Event(NOW, 404, "no such file"))
    assert (await get(ledger)).state is State.COMPLETED
    assert await column(ledger, "error") == "no such file"
    assert (await actions(ledger))[-1] == "download"


async def test_expired_jobs_whose_files_are_back_are_saved_again(ledger: Ledger):
    record = await bring(ledger, State.EXPIRED)
    assert await ledger.come_back(record.key, NOW)
    assert (await get(ledger)).state is State.SAVED


async def test_what_a_job_cost_adds_up_over_its_retries(ledger: Ledger):
    record = await bring(ledger, State.COMPLETED)
    assert await ledger.end(record, State.FAILED, EVENT)
    assert await retry(ledger, Selection(), NOW) == 1
    await bring(ledger, State.COMPLETED)
    assert await column(ledger, "cost") == pytest.approx(0.04)
    assert (await counts(ledger))["m"].spent == pytest.approx(0.04)


async def test_what_a_failed_job_cost_adds_up_too(ledger: Ledger):
    for _ in range(2):
        record = await bring(ledger, State.SUBMITTED)
        assert await ledger.end(record, State.FAILED, EVENT, 0.25)
        assert await retry(ledger, Selection(), NOW) == 1
    assert await column(ledger, "cost") == 0.5


async def test_a_result_without_a_cost_changes_none(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTED)
    assert await ledger.complete(record, "{}", EVENT)
    assert await column(ledger, "cost") is None


async def test_a_very_long_reason_is_cut(ledger: Ledger):
    record = await bring(ledger, State.SUBMITTING)
    assert await ledger.end(record, State.FAILED, Event(NOW, 500, "x" * 10_000))
    assert len(await column(ledger, "error")) == DETAIL_LIMIT
    assert len((await attempts(ledger, record.key))[-1].detail or "") == DETAIL_LIMIT


def test_an_event_takes_its_words_from_the_answer():
    assert Event.of(NOW, Answer(500, text="oops")) == Event(NOW, 500, "oops")
    assert Event.of(NOW, Answer(500, text="oops"), "better") == Event(NOW, 500, "better")
    assert Event.of(NOW, Answer(None)) == Event(NOW)


async def test_facts_are_remembered_and_replaced(ledger: Ledger):
    assert await ledger.fact("rpm") is None
    await ledger.remember("rpm", "60")
    await ledger.remember("rpm", "120")
    assert await ledger.fact("rpm") == "120"


# Compare and set

VERBS: dict[str, tuple[State, Any]] = {
    "begin_submit": (State.PENDING, lambda l, r: l.begin_submit(r, NOW, NOW)),  # noqa: E741
    "accept": (State.SUBMITTING, lambda l, r: l.accept(r, "r-x", EVENT)),  # noqa: E741
    "refuse": (State.SUBMITTING, lambda l, r: l.refuse(r, NOW, EVENT)),  # noqa: E741
    "unsend": (State.SUBMITTING, lambda l, r: l.unsend(r, NOW, EVENT)),  # noqa: E741
    "doubt": (State.SUBMITTING, lambda l, r: l.doubt(r, EVENT)),  # noqa: E741
    "find": (State.IN_DOUBT, lambda l, r: l.find(r, NOW, NOW, Event(NOW, request_id="f"))),  # noqa: E741
    "requeue": (State.IN_DOUBT, lambda l, r: l.requeue(r, EVENT)),  # noqa: E741
    "end": (State.SUBMITTED, lambda l, r: l.end(r, State.BLOCKED, EVENT, 0.5)),  # noqa: E741
    "complete": (State.SUBMITTED, lambda l, r: l.complete(r, "{}", EVENT, 0.5)),  # noqa: E741
    "save": (State.COMPLETED, lambda l, r: l.save(r, [picture()], EVENT)),  # noqa: E741
    "reopen": (State.SAVED, lambda l, r: l.reopen(r.key, NOW, "gone")),  # noqa: E741
    "come_back": (State.EXPIRED, lambda l, r: l.come_back(r.key, NOW)),  # noqa: E741
}


async def everything(ledger: Ledger) -> list[Any]:
    tables = ("jobs", "results", "files", "attempts", "facts")
    return [await sql(ledger, f"SELECT * FROM {table}") for table in tables]  # noqa: S608


@pytest.mark.parametrize("verb", VERBS)
async def test_the_second_of_two_callers_loses_and_writes_nothing(ledger: Ledger, verb: str):
    state, call = VERBS[verb]
    record = await bring(ledger, state)
    assert await call(ledger, record)
    before = await everything(ledger)
    assert not await call(ledger, record)
    assert await everything(ledger) == before


@pytest.mark.parametrize("verb", VERBS)
async def test_of_many_callers_at_once_one_wins(ledger: Ledger, verb: str):
    state, call = VERBS[verb]
    record = await bring(ledger, state)
    length = len(await actions(ledger))
    won = await asyncio.gather(*(call(ledger, record) for _ in range(20)))
    assert sum(map(bool, won)) == 1
    assert len(await actions(ledger)) == length + 1


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("after", State)
async def test_a_move_that_the_table_does_not_know_is_refused(
    ledger: Ledger, state: State, after: State
):
    record = await bring(ledger, state) if state is not State.SUBMITTING else await get(ledger)
    if state is State.SUBMITTING:
        record = await bring(ledger, state)
    before = await everything(ledger)
    if after in TRANSITIONS[state]:
        return
    with pytest.raises(RunnerError, match=f"{state} to {after}"):
        await ledger.end(record, after, EVENT)
    assert await everything(ledger) == before


async def test_a_job_that_is_not_there_is_nobody(ledger: Ledger):
    assert await ledger.one(999) is None
    assert await ledger.completed(999) is None


async def test_a_job_that_is_not_completed_has_no_result_to_fetch(ledger: Ledger):
    record = await bring(ledger, State.SAVED)
    assert await ledger.completed(record.key) is None


# Many jobs at once


async def test_what_was_being_sent_when_a_run_died_is_in_doubt(ledger: Ledger):
    await bring(ledger, State.SUBMITTING, "j0")
    await bring(ledger, State.SUBMITTING, "j1")
    await bring(ledger, State.SUBMITTED, "j2")
    assert await ledger.doubt_interrupted(NOW + 60) == 2
    assert await ledger.doubt_interrupted(NOW + 60) == 0
    states = [(await get(ledger, f"j{n}")).state for n in range(4)]
    assert states == [State.IN_DOUBT, State.IN_DOUBT, State.SUBMITTED, State.PENDING]
    assert await actions(ledger, "j1") == ["submitting", "in_doubt"]


async def test_a_stopped_model_fails_its_waiting_jobs_and_no_others(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        others = [job(9, model="other"), job(8, manifest="n", id="n8")]
        await plan(ledger, [job(0), job(1), job(2), *others])
        await bring(ledger, State.SUBMITTED, "j1")
        manifest = await column(ledger, "manifest_key")
        assert await ledger.stop_model("imagen", [manifest], "403: not yours", NOW) == 2
        states = {n: (await get(ledger, n)).state for n in ("j0", "j1", "j2", "j9", "n8")}
        assert states == {
            "j0": State.FAILED,
            "j1": State.SUBMITTED,
            "j2": State.FAILED,
            "j9": State.PENDING,
            "n8": State.PENDING,
        }
        assert await column(ledger, "error") == "403: not yours"
        assert await actions(ledger) == ["failed"]
        assert await ledger.stop_model("imagen", [], "x", NOW) == 0


async def test_retry_puts_back_what_ended_short_of_saved(ledger: Ledger):
    for number, state in enumerate(sorted(RETRYABLE_STATES)):
        await bring(ledger, state, f"j{number}")
    assert await retry(ledger, Selection(), NOW + 1) == 5
    for number in range(5):
        record = await get(ledger, f"j{number}")
        assert (record.state, record.request_id, record.refusals) == (State.PENDING, None, 0)
        assert (await actions(ledger, f"j{number}"))[-1] == "retry"
    assert "it is blocked" in str((await attempts(ledger, (await get(ledger)).key))[-1].detail)


@pytest.mark.parametrize(
    "state", [s for s in State if s not in RETRYABLE_STATES], ids=lambda state: str(state)
)
async def test_retry_never_touches_work_that_is_under_way_or_done(ledger: Ledger, state: State):
    await bring(ledger, state)
    before = await get(ledger)
    assert await retry(ledger, Selection(), NOW) == 0
    assert await retry(ledger, Selection(states=(state,)), NOW) == 0
    assert await get(ledger) == before


async def test_retry_takes_only_what_is_selected(ledger: Ledger):
    await bring(ledger, State.FAILED, "j0")
    await bring(ledger, State.FAILED, "j1")
    await bring(ledger, State.BLOCKED, "j2")
    assert await retry(ledger, Selection(manifests=("other",)), NOW) == 0
    assert await retry(ledger, Selection(states=(State.BLOCKED,)), NOW) == 1
    assert await retry(ledger, Selection(manifests=("m",), ids=("j1",)), NOW) == 1
    assert (await get(ledger, "j0")).state is State.FAILED


# Looking


async def test_pending_jobs_come_in_the_order_of_their_manifest_a_page_at_a_time(ledger: Ledger):
    manifest = await column(ledger, "manifest_key")
    first = await ledger.pending(manifest, 0, 2, NOW)
    second = await ledger.pending(manifest, first[-1].key, 9, NOW)
    assert [r.id for r in first + second] == ["j0", "j1", "j2", "j3", "j4"]


async def test_the_first_to_be_forgotten_comes_first_when_a_run_resumes(ledger: Ledger):
    for number, deadline in ((0, 30), (1, 10), (2, 20)):
        record = await get(ledger, f"j{number}")
        await ledger.begin_submit(record, NOW, NOW + deadline)
        await ledger.accept(await get(ledger, f"j{number}"), f"r{number}", EVENT)
    assert [r.id for r in await ledger.submitted()] == ["j1", "j2", "j0"]
    assert await next_deadline(ledger) == NOW + 10


async def test_without_jobs_in_flight_there_is_no_deadline(ledger: Ledger):
    assert await next_deadline(ledger) is None


async def test_completed_jobs_are_found_behind_a_key(ledger: Ledger):
    keys = [(await bring(ledger, State.COMPLETED, f"j{n}")).key for n in (0, 2, 4)]
    assert await ledger.completed_keys(0, 2) == keys[:2]
    assert await ledger.completed_keys(keys[1], 2) == keys[2:]


async def test_recorded_files_come_in_pages_that_join_without_gap(ledger: Ledger):
    for number in range(4):
        record = await bring(ledger, State.COMPLETED, f"j{number}")
        files = [picture(n, f"{number}-{n}.png") for n in range(3)]
        await ledger.save(record, files, EVENT)
    manifest = await column(ledger, "manifest_key")
    found, after = [], (0, -1)
    while page := await ledger.recorded_files(manifest, after, 5):
        found += [file.path for file in page]
        after = (page[-1].key, page[-1].n)
    assert found == [f"{number}-{n}.png" for number in range(4) for n in range(3)]


async def test_only_expired_jobs_with_an_id_and_without_a_result_are_recoverable(ledger: Ledger):
    await bring(ledger, State.EXPIRED, "j0")
    record = await bring(ledger, State.COMPLETED, "j1")
    await ledger.end(record, State.EXPIRED, EVENT)
    assert [r.id for r in await ledger.recoverable(NOW - 1, 0.0)] == ["j0"]
    assert await ledger.recoverable(NOW, 0.0) == []
    # By a clock that may have been wrong.
    assert [r.id for r in await ledger.recoverable(NOW, 60.0)] == ["j0"]


async def test_what_is_being_sent_is_known_by_its_body(ledger: Ledger):
    await bring(ledger, State.SUBMITTING)
    assert await ledger.submitting_bodies() == {("imagen", '{"prompt":"prompt 0"}')}


async def test_counts_tell_states_money_and_removed_jobs(ledger: Ledger):
    await bring(ledger, State.SAVED, "j0")
    await bring(ledger, State.COMPLETED, "j1")
    await plan(ledger, [job(n) for n in range(1, 5)])
    found = (await counts(ledger))["m"]
    assert found.states == {State.COMPLETED: 1, State.PENDING: 3}
    assert (found.total, found.removed, found.spent) == (4, 1, pytest.approx(0.04))


async def test_causes_name_the_most_frequent_reason_first(ledger: Ledger):
    for number, reason in enumerate(("a", "b", "b", "c")):
        record = await bring(ledger, State.SUBMITTING, f"j{number}")
        await ledger.end(record, State.FAILED, Event(NOW, detail=reason))
    manifest = await column(ledger, "manifest_key")
    assert (await causes(ledger, [manifest]))[0] == (State.FAILED, "b", 2)
    assert len(await causes(ledger, [manifest], limit=2)) == 2
    assert await causes(ledger, []) == []


async def test_a_listing_shows_everything_page_by_page(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        number_of_jobs = PAGE + 3
        await plan(ledger, [job(n, tags=("a", "b"), meta={"x": n}) for n in range(number_of_jobs)])
        await bring(ledger, State.SAVED, "j1")
        jobs = [j async for j in listed(ledger, Selection())]
        assert [j.id for j in jobs] == [f"j{n}" for n in range(number_of_jobs)]
        assert (jobs[1].tags, jobs[1].meta, jobs[1].cost) == (("a", "b"), {"x": 1}, 0.02)
        assert [file.path for file in jobs[1].files] == ["j1.png"]
        assert jobs[2].files == ()
        saved = [j.id async for j in listed(ledger, Selection(states=(State.SAVED,)))]
        assert saved == ["j1"]
        assert await count_selected(ledger, Selection(manifests=("m",))) == number_of_jobs
        assert await count_selected(ledger, Selection(ids=("j1", "j2", "nobody"))) == 2
        assert await saved_files(ledger) == {"m": 1}


async def test_models_are_known_by_what_their_jobs_cost_and_took(ledger: Ledger):
    await bring(ledger, State.COMPLETED, "j0")
    await bring(ledger, State.SUBMITTED, "j1")
    assert await model_history(ledger) == {"imagen": ModelHistory(1, 0.02, 10.0, 0.02)}
    assert await manifest_names(ledger) == ["m"]


# Group commit


async def test_writes_that_come_together_share_a_transaction(ledger: Ledger):
    await plan(ledger, [job(n) for n in range(100)])
    records = [await get(ledger, f"j{n}") for n in range(100)]
    statements: list[str] = []
    await ledger.call(lambda database: database.set_trace_callback(statements.append))
    won = await asyncio.gather(*(ledger.begin_submit(r, NOW, NOW) for r in records))
    await ledger.call(lambda database: database.set_trace_callback(None))
    assert all(won)
    assert statements.count("COMMIT") < 10


async def test_what_comes_after_a_thread_that_was_quick_is_not_left_to_wait():
    database = sqlite3.connect(":memory:")
    gathered: Gathering[int] = Gathering(
        lambda: lambda work: work(database), lambda _, works: [2 * each for each in works]
    )
    assert await asyncio.wait_for(gathered.add(1), 5) == 2
    assert await asyncio.wait_for(gathered.add(2), 5) == 4


async def test_a_ledger_that_is_closed_says_so_each_time(tmp_path: Path):
    closed = await Ledger.open(tmp_path / "l.db", durable=False)
    await closed.close()
    for _ in range(2):
        with pytest.raises(ValueError, match="closed"):
            await asyncio.wait_for(closed.fact("x"), 5)
        with pytest.raises(ValueError, match="closed"):
            await asyncio.wait_for(closed.reopen(1, NOW, "gone"), 5)


async def with_a_write_queued(
    folder: Path,
) -> tuple[Ledger, asyncio.Future[None], asyncio.Future[bool]]:
    """A ledger whose thread is busy, what keeps it so, and a write that waits behind it."""
    ledger = await Ledger.open(folder / "l.db", durable=False)
    await plan(ledger, [job(0)])
    record = await get(ledger, "j0")
    busy = asyncio.ensure_future(ledger.call(lambda _: time.sleep(0.2)))
    await asyncio.sleep(0.02)
    written = asyncio.ensure_future(ledger.begin_submit(record, NOW, NOW))
    await asyncio.sleep(0)
    return ledger, busy, written


async def test_what_is_queued_is_written_although_the_closing_is_broken_off(tmp_path: Path):
    ledger, busy, written = await with_a_write_queued(tmp_path)
    closing = asyncio.ensure_future(ledger.close())
    await asyncio.sleep(0)
    closing.cancel()
    assert await asyncio.wait_for(written, 5)
    with pytest.raises(asyncio.CancelledError):
        await closing
    await busy
    with closing_file(sqlite3.connect(tmp_path / "l.db")) as file:
        assert file.execute("SELECT state FROM jobs").fetchone() == ("submitting",)


async def test_a_ledger_is_closed_in_order_inside_of_what_is_cancelled(tmp_path: Path):
    ledger, busy, written = await with_a_write_queued(tmp_path)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ledger.close()
    assert busy.done()
    assert await asyncio.wait_for(written, 5)


async def test_what_comes_while_it_closes_is_told_so(tmp_path: Path):
    ledger = await Ledger.open(tmp_path / "l.db", durable=False)
    closing = asyncio.ensure_future(ledger.close())
    await asyncio.sleep(0)
    with pytest.raises((LedgerError, ValueError), match="closed"):
        await asyncio.wait_for(ledger.fact("x"), 5)
    await closing


async def test_a_batch_is_bounded(ledger: Ledger):
    many = BATCH_LIMIT * 2 + 10
    await plan(ledger, [job(n) for n in range(many)])
    rows = await sql(ledger, "SELECT job_key FROM jobs")
    records = [await ledger.one(key) for (key,) in rows]
    won = await asyncio.gather(*(ledger.begin_submit(r, NOW, NOW) for r in records if r))
    assert sum(won) == many


async def test_each_of_the_writes_that_share_a_transaction_learns_its_own_outcome(ledger: Ledger):
    stale = await get(ledger, "j1")
    await bring(ledger, State.SUBMITTED, "j1")
    records = [await get(ledger, "j0"), stale, await get(ledger, "j2")]
    won = await asyncio.gather(*(ledger.begin_submit(r, NOW, NOW) for r in records))
    assert won == [True, False, True]


async def test_a_write_that_cannot_be_carried_out_takes_no_other_with_it(ledger: Ledger):
    records = [await bring(ledger, State.SUBMITTING, f"j{n}") for n in range(3)]
    done = await bring(ledger, State.COMPLETED, "j3")
    nameless = SavedFile(0, None, None, 1, "x", "image/png")
    outcomes = await asyncio.wait_for(
        asyncio.gather(
            ledger.accept(records[0], "r-0", EVENT),
            ledger.accept(records[1], 1 << 70, EVENT),  # type: ignore[arg-type]
            ledger.save(done, [nameless], EVENT),
            ledger.accept(records[2], "r-2", EVENT),
            return_exceptions=True,
        ),
        timeout=5,
    )
    assert outcomes[0] is outcomes[3] is True
    assert isinstance(outcomes[1], OverflowError)
    assert isinstance(outcomes[2], LedgerError)
    states = [(await get(ledger, f"j{n}")).state for n in range(4)]
    assert states == [State.SUBMITTED, State.SUBMITTING, State.SUBMITTED, State.COMPLETED]
    assert await actions(ledger, "j1") == ["submitting"]


async def test_half_a_character_costs_a_text_no_more_than_itself(ledger: Ledger):
    records = [await bring(ledger, State.SUBMITTING, f"j{n}") for n in range(3)]
    odd = Event(NOW, 500, "a \ud83d fox")
    await asyncio.gather(
        ledger.accept(records[0], "r-0", EVENT),
        ledger.doubt(records[1], odd),
        ledger.accept(records[2], "r-2", EVENT),
    )
    states = [(await get(ledger, f"j{n}")).state for n in range(3)]
    assert states == [State.SUBMITTED, State.IN_DOUBT, State.SUBMITTED]
    assert (await attempts(ledger, records[1].key))[-1].detail == "a ? fox"


async def test_a_write_whose_waiter_is_cancelled_still_lands(ledger: Ledger):
    records = [await bring(ledger, State.SUBMITTING, f"j{n}") for n in range(3)]
    tasks = [asyncio.create_task(ledger.accept(r, f"r-{r.id}", EVENT)) for r in records]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    assert [(await get(ledger, f"j{n}")).state for n in range(3)] == [State.SUBMITTED] * 3


async def test_the_ledger_goes_on_after_a_cancelled_waiter(ledger: Ledger):
    record = await get(ledger)
    task = asyncio.create_task(ledger.begin_submit(record, NOW, NOW))
    await asyncio.sleep(0)
    task.cancel()
    assert await asyncio.wait_for(ledger.begin_submit(await get(ledger, "j1"), NOW, NOW), 5)


class SlowWrite(Write):
    """A write during which others have the time to queue up."""

    def apply(self, database: sqlite3.Connection) -> bool:
        time.sleep(0.004)
        return super().apply(database)


async def test_nobody_waits_for_writes_that_came_later(ledger: Ledger):
    order: list[str] = []

    async def write(name: str) -> None:
        statement = ("UPDATE jobs SET error = :name WHERE id = 'j0'", {"name": name})
        await ledger._commits.commit(SlowWrite([statement]))
        order.append(name)

    async def chain(name: str) -> None:
        for _ in range(25):
            await write(name)

    first = asyncio.create_task(write("first"))
    others = []
    for name in "abcd":
        await asyncio.sleep(0.003)
        others.append(asyncio.create_task(chain(name)))
    await asyncio.gather(first, *others)
    assert order.index("first") < 20


async def test_a_full_disk_reaches_every_waiter_and_later_writes_work(ledger: Ledger):
    records = [await bring(ledger, State.SUBMITTED, f"j{n}") for n in range(4)]
    pages = (await sql(ledger, "PRAGMA page_count"))[0][0]
    await sql(ledger, f"PRAGMA max_page_count = {pages}")
    body = '"' + "x" * 200_000 + '"'
    outcomes = await asyncio.gather(
        *(ledger.complete(record, body, EVENT) for record in records), return_exceptions=True
    )
    assert all(isinstance(outcome, LedgerError) for outcome in outcomes)
    assert "disk" in str(outcomes[0])
    assert "free some space" in str(outcomes[0])
    assert [(await get(ledger, f"j{n}")).state for n in range(4)] == [State.SUBMITTED] * 4
    await sql(ledger, "PRAGMA max_page_count = 1000000")
    assert await ledger.complete(records[0], body, EVENT)
    assert (await sql(ledger, "PRAGMA integrity_check")) == [("ok",)]


async def test_closing_finishes_what_is_queued(tmp_path: Path):
    ledger = await Ledger.open(tmp_path / "l.db", durable=False)
    await plan(ledger, [job(n) for n in range(50)])
    records = [await get(ledger, f"j{n}") for n in range(50)]
    writes = [asyncio.create_task(ledger.begin_submit(r, NOW, NOW)) for r in records]
    await asyncio.sleep(0)
    await ledger.close()
    assert all(await asyncio.gather(*writes))
    with sqlite3.connect(tmp_path / "l.db") as database:
        query = "SELECT count(*) FROM jobs WHERE state = 'submitting'"
        assert database.execute(query).fetchone() == (50,)
    database.close()


# The file


async def test_every_commit_is_on_disk_before_it_returns(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db") as ledger:
        assert await sql(ledger, "PRAGMA synchronous") == [(2,)]
        assert await sql(ledger, "PRAGMA journal_mode") == [("wal",)]
        assert await sql(ledger, "PRAGMA foreign_keys") == [(1,)]


@pytest.mark.parametrize("there", [False, True], ids=["no file", "an empty file"])
async def test_nothing_becomes_a_ledger_of_this_version(tmp_path: Path, there: bool):
    path = tmp_path / "l.db"
    if there:
        path.touch()
    async with await Ledger.open(path) as ledger:
        assert await sql(ledger, "PRAGMA user_version") == [(VERSION,)]
        assert await sql(ledger, "PRAGMA application_id") == [(APPLICATION_ID,)]


async def test_a_ledger_opened_again_is_as_it_was(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db") as ledger:
        await plan(ledger, [job(0)])
        await bring(ledger, State.SAVED)
        before = await everything(ledger)
    async with await Ledger.open(tmp_path / "l.db") as ledger:
        assert await everything(ledger) == before


async def test_a_ledger_of_the_first_schema_is_brought_up_and_keeps_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as first:
        first.setattr("runner.ledger.schema.MIGRATIONS", MIGRATIONS[:1])
        first.setattr("runner.ledger.schema.VERSION", 1)
        async with await Ledger.open(tmp_path / "l.db") as ledger:
            await sql(ledger, "INSERT INTO manifests VALUES (1, 'm', 'm.yaml', 'out', '', 0)")
            await sql(
                ledger,
                "INSERT INTO jobs (manifest_key, id, model, params, tags, meta, place, repeat, output, "
                "source, state, submitted_at) "
                "VALUES (1, 'j0', 'imagen', '{}', '[]', '{}', 0, 0, '', '', 'in_doubt', ?)",
                NOW,
            )
    async with await Ledger.open(tmp_path / "l.db") as ledger:
        record = await get(ledger)
        assert await sql(ledger, "PRAGMA user_version") == [(VERSION,)]
    # When that was by the server's clock nobody knows.
    assert (record.submitted_at, record.server_at, record.server_until) == (NOW, None, None)


async def test_a_newer_ledger_is_left_alone(tmp_path: Path):
    path = tmp_path / "l.db"
    async with await Ledger.open(path) as ledger:
        await sql(ledger, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(LedgerTooNew, match=r"newer runner .*pip install --upgrade"):
        await Ledger.open(path)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path):
    path = tmp_path / "photos.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE photos (name)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(LedgerUnreadable, match=r"another program.*--ledger"):
        await Ledger.open(path)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["photos.db"]


async def test_a_text_file_is_refused_and_not_touched(tmp_path: Path):
    path = tmp_path / "animals.yaml"
    path.write_text("name: animals\n" * 100)
    with pytest.raises(LedgerUnreadable, match=r"not a ledger.*--ledger"):
        await Ledger.open(path)
    assert path.read_text() == "name: animals\n" * 100


async def test_a_damaged_ledger_is_refused(tmp_path: Path):
    path = tmp_path / "l.db"
    async with await Ledger.open(path) as ledger:
        await plan(ledger, [job(n) for n in range(50)])
    data = path.read_bytes()
    path.write_bytes(b"garbage!" * 8 + data[64:])
    with pytest.raises(LedgerUnreadable, match="damaged"):
        await Ledger.open(path)


async def test_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(LedgerUnreadable, match="cannot be opened; check its folder"):
        await Ledger.open(tmp_path)


async def test_a_ledger_in_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(LedgerUnreadable, match="cannot be opened; check its folder"):
        await Ledger.open(tmp_path / "nowhere" / "l.db")


READ_ONLY = """
import asyncio, concurrent.futures.thread, os, sys
from runner.errors import LedgerUnreadable
from runner.ledger import Ledger, Planning
async def main():
    try:
        async with await Ledger.open(sys.argv[1]) as ledger:
            await ledger.remember("rpm", "60")
    except LedgerUnreadable as error:
        print(error)
# Root may write everywhere, so somebody else has to look.
if os.geteuid() == 0:
    os.setuid(65534)
asyncio.run(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter there")
def test_a_read_only_ledger_is_refused_in_clear_words():
    # A folder of its own, because others may not look into pytest's.
    folder = Path(tempfile.mkdtemp())

    async def make() -> None:
        async with await Ledger.open(folder / "l.db") as ledger:
            await plan(ledger, [job(0)])

    try:
        asyncio.run(make())
        (folder / "l.db").chmod(0o444)
        folder.chmod(0o555)
        command = [sys.executable, "-B", "-c", READ_ONLY, str(folder / "l.db")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert re.search("cannot be (written|opened); check its.* permissions", done.stdout), done
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_two_programs_may_open_an_empty_file_at_once(tmp_path: Path):
    tries = [Ledger.open(tmp_path / "l.db") for _ in range(4)]
    opened = await asyncio.gather(*tries, return_exceptions=True)
    for ledger in opened:
        if isinstance(ledger, Ledger):
            await ledger.close()
    assert not [problem for problem in opened if not isinstance(problem, Ledger)]


async def test_what_one_connection_commits_the_other_sees(tmp_path: Path):
    async with (
        await Ledger.open(tmp_path / "l.db") as one,
        await Ledger.open(tmp_path / "l.db") as other,
    ):
        await plan(one, [job(0)])
        stale = await get(other)
        await bring(one, State.SUBMITTED)
        assert (await get(other)).request_id == "r-j0"
        assert not await other.begin_submit(stale, NOW, NOW)


async def test_a_ledger_that_is_locked_for_long_is_busy(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        await plan(ledger, [job(0)])
        await sql(ledger, "PRAGMA busy_timeout = 50")
        other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy, match="in use by another program"):
            await ledger.begin_submit(await get(ledger), NOW, NOW)
        other.execute("ROLLBACK")
        other.close()
        assert await ledger.begin_submit(await get(ledger), NOW, NOW)


async def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger):
    def work(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.execute("DELETE FROM jobs")
            database.execute("SELECT * FROM nowhere")

    with pytest.raises(LedgerError):
        await ledger.call(work)
    assert len(await sql(ledger, "SELECT 1 FROM jobs")) == 5


# Query plans

# What reads the whole ledger by its nature, and never while jobs are sent.
WHOLE_LEDGER = {
    "COUNT_SELECTED": "a selection of the user",
    "NEWEST_KEYS": "what a gallery shows, once",
    "RECENT_LATENCIES": "some rows from the end of an index",
    "RETRY": "a selection of the user",
    "RETRY_HISTORY": "a selection of the user",
}
SQL: dict[str, Any] = {}
for module in (queries, reading_queries, inputs_queries, planning_queries, showing_queries):
    SQL |= vars(module)
QUERIES = [
    name
    for name, text in SQL.items()
    if name.isupper() and not name.startswith("_") and not text.lstrip().startswith("CREATE")
]


@pytest.fixture(scope="module")
def large() -> sqlite3.Connection:
    """A ledger of 20,000 jobs in every state, with one manifest's jobs staged."""
    folder = Path(tempfile.mkdtemp())

    async def make() -> None:
        async with await Ledger.open(folder / "l.db", durable=False) as ledger:
            await plan(ledger, [job(n) for n in range(20_000)])
            states = ", ".join(f"({n}, '{s}')" for n, s in enumerate(State))
            await sql(
                ledger,
                f"WITH s(n, state) AS (VALUES {states}) UPDATE jobs SET state = "  # noqa: S608
                "(SELECT state FROM s WHERE n = job_key % 10), request_id = 'r' || job_key, "
                "deadline = job_key, submitted_at = job_key",
            )

    asyncio.run(make())
    database = sqlite3.connect(folder / "l.db")
    database.execute(planning_queries.CREATE_STAGE)
    yield database
    database.close()
    shutil.rmtree(folder)


def plan_of(database: sqlite3.Connection, name: str) -> list[str]:
    query = SQL[name]
    if "{" in query:
        query = query.format(manifests="1, 2", condition="wanted = 1 AND state IN ('failed')")
    values: Any = dict.fromkeys(re.findall(r"(?<!:):(\w+)", query), 1)
    if "?" in query:
        values = [1] * query.count("?")
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", values)]


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in WHOLE_LEDGER])
def test_a_query_reads_no_more_of_the_ledger_than_it_needs(large: sqlite3.Connection, name: str):
    scans = [
        step
        for step in plan_of(large, name)
        if re.match(r"SCAN (jobs|j|o|files|f|attempts|results)\b", step)
    ]
    # A partial index holds only the jobs of one state: to read all of it is what is asked for.
    own_state = (
        "jobs_submitting",
        "jobs_submitted",
        "jobs_completed",
        "jobs_in_doubt",
        "jobs_expired",
    )
    assert not [step for step in scans if not step.endswith(own_state)]


@pytest.mark.parametrize("name", ["COUNTS", "SAVED_FILES", "MONEY_BY_MODEL", "MODEL_HISTORY"])
def test_counting_reads_no_jobs(large: sqlite3.Connection, name: str):
    assert not [step for step in plan_of(large, name) if re.search(r" (jobs|j|files|f)\b", step)]


@pytest.mark.parametrize("name", ["NEXT_PENDING", "COMPLETED_KEYS", "RECORDED_FILES", "LIST_JOBS"])
def test_a_page_is_not_sorted_out_of_everything(large: sqlite3.Connection, name: str):
    assert not [step for step in plan_of(large, name) if "TEMP B-TREE" in step]


def test_the_next_jobs_to_send_come_straight_from_their_index(large: sqlite3.Connection):
    steps = plan_of(large, "NEXT_PENDING")
    assert any("USING INDEX jobs_pending (manifest_key=? AND job_key>?)" in step for step in steps)
