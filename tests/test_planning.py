"""Planning brings manifests into the ledger: nothing paid for is lost, nothing is written over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledgers import NOW, OUTPUT, bring, column, get, job, plan, source, sql

from runner.errors import InputError, LedgerError, Problem
from runner.job import Job, State
from runner.ledger import Comparison, Group, Ledger, Planning, Source, find_manifest
from runner.ledger.planning import PROBLEM_LIMIT
from runner.ledger.reading import counts


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        yield ledger


async def staged(ledger: Ledger, *jobs: Job) -> Planning:
    planning = Planning(ledger)
    await planning.begin()
    await planning.stage(jobs)
    return planning


async def problems(ledger: Ledger, *jobs: Job, output: Path = OUTPUT) -> list[Problem]:
    planning = await staged(ledger, *jobs)
    with pytest.raises(InputError) as caught:
        await planning.check(output)
    return list(caught.value.problems)


async def compared(ledger: Ledger, *jobs: Job, names: tuple[str, ...] = ("m",)) -> Comparison:
    return await (await staged(ledger, *jobs)).compare(names)


async def states(ledger: Ledger) -> dict[str, str]:
    return dict(await sql(ledger, "SELECT id, state FROM jobs ORDER BY job_key"))


# What is staged


async def test_jobs_come_in_as_they_were_written_in_their_order(ledger: Ledger):
    first = job(0, tags=("a", "b"), meta={"size": "ü"}, repeat=2, params={"b": 1, "a": [True]})
    assert await plan(ledger, [first, job(1)]) == []
    assert await states(ledger) == {"j0": "pending", "j1": "pending"}
    row = await sql(ledger, "SELECT params, tags, meta, place, repeat, output, source FROM jobs")
    assert row[0] == (
        '{"a":[true],"b":1}',
        '["a","b"]',
        '{"size":"ü"}',
        0,
        2,
        "j0.{ext}",
        "m.yaml:1",
    )


async def test_a_request_written_twice_is_one_job_and_said_so(ledger: Ledger):
    [note] = await plan(ledger, [job(0), replace(job(0), source="m.yaml:7")])
    assert note.startswith("1 request is written twice and rendered once")
    assert "m.yaml:7 repeats m.yaml:1" in note
    assert "`repeat: 2`" in note
    assert await states(ledger) == {"j0": "pending"}


async def test_many_repetitions_are_told_in_one_note(ledger: Ledger):
    jobs = [job(n) for n in range(60)]
    [note] = await plan(ledger, [*jobs, *jobs, *jobs])
    assert note.startswith("120 requests are written twice")
    assert "and 117 more" in note


async def test_the_same_id_in_two_manifests_is_two_jobs(ledger: Ledger):
    other = job(0, manifest="n", output="other.{ext}")
    assert await plan(ledger, [job(0), other]) == []
    assert len(await sql(ledger, "SELECT 1 FROM jobs")) == 2


@pytest.mark.parametrize("change", [{"params": {"prompt": "x"}}, {"model": "other"}])
async def test_one_id_for_two_requests_is_an_error_that_names_both_places(
    ledger: Ledger, change: dict[str, Any]
):
    again = replace(job(0), source="m.yaml:9", output="other.{ext}", **change)
    [problem] = await problems(ledger, job(0), again)
    assert (problem.file, problem.line) == ("m.yaml", 1)
    assert "the id `j0` is used twice in `m`, also at m.yaml:9" in problem.message


async def test_two_jobs_that_would_write_one_file_are_an_error_that_names_both_places(
    ledger: Ledger,
):
    [problem] = await problems(ledger, job(0, output="a.{ext}"), job(1, output="a.{ext}"))
    assert (problem.file, problem.line) == ("m.yaml", 1)
    assert "the one at m.yaml:2 would write one file, a;" in problem.message
    assert "{id}, {index} or {repeat}" in problem.message


async def test_more_than_two_jobs_for_one_file_are_counted(ledger: Ledger):
    [problem] = await problems(ledger, *(job(n, output="a.{ext}") for n in range(5)))
    assert "and 3 more" in problem.message


async def test_names_collide_across_the_manifests_of_a_run(ledger: Ledger):
    other = job(1, manifest="n", source="n.yaml:1", output="a.{ext}")
    [problem] = await problems(ledger, job(0, output="a.{ext}"), other)
    assert "n.yaml:1" in str(problem)
    assert "m.yaml:1" in str(problem)


async def test_names_that_differ_by_the_number_of_the_file_alone_collide(ledger: Ledger):
    assert await problems(ledger, job(0, output="a-{n}.{ext}"), job(1, output="a-{n}.{ext}"))


async def test_so_many_problems_are_shown_and_the_rest_is_hinted_at(ledger: Ledger):
    jobs = [job(n, output=f"{n // 2}.{{ext}}") for n in range(4 * PROBLEM_LIMIT)]
    planning = await staged(ledger, *jobs)
    with pytest.raises(InputError, match="… and more") as caught:
        await planning.check(OUTPUT)
    assert len(caught.value.problems) == PROBLEM_LIMIT


# Names that are taken


async def test_a_new_job_never_writes_over_the_file_of_a_saved_one(ledger: Ledger):
    await plan(ledger, [job(0, output="a.{ext}")])
    await bring(ledger, State.SAVED)
    [problem] = await problems(ledger, job(1, output="a.{ext}"))
    assert "a is already the file of job j0, saved by an earlier run" in problem.message


async def test_not_even_the_file_of_a_job_that_left_the_manifest_or_is_another_manifests(
    ledger: Ledger,
):
    await plan(ledger, [job(0, output="a.{ext}"), job(1)])
    await bring(ledger, State.SAVED)
    await plan(ledger, [job(1)])
    assert await problems(ledger, job(1), job(2, output="a.{ext}"))
    assert await problems(ledger, job(3, manifest="n", output="a.{ext}"))


async def test_a_known_job_that_is_not_saved_may_not_take_the_name_either(ledger: Ledger):
    await plan(ledger, [job(0, output="a.{ext}"), job(1, output="b.{ext}")])
    await bring(ledger, State.SAVED)
    await bring(ledger, State.SUBMITTED, "j1")
    assert await problems(ledger, job(1, output="a.{ext}"))


async def test_another_output_directory_has_its_own_names(ledger: Ledger):
    await plan(ledger, [job(0, output="a.{ext}")])
    await bring(ledger, State.SAVED)
    planning = await staged(ledger, job(1, output="a.{ext}"))
    assert await planning.check(Path("/elsewhere")) == []


async def test_saved_jobs_may_change_places_because_they_keep_their_names(ledger: Ledger):
    await plan(ledger, [job(0, output="0.{ext}"), job(1, output="1.{ext}")])
    await bring(ledger, State.SAVED, "j0")
    await bring(ledger, State.SAVED, "j1")
    await plan(ledger, [job(1, output="0.{ext}"), job(0, output="1.{ext}")])
    assert await column(ledger, "output", "j0") == "0.{ext}"
    assert await column(ledger, "output", "j1") == "1.{ext}"


async def test_a_plan_that_is_the_same_has_no_problems(ledger: Ledger):
    jobs = [job(n) for n in range(3)]
    await plan(ledger, jobs)
    await bring(ledger, State.SAVED)
    assert await plan(ledger, jobs) == []


# Adopting


async def test_a_manifest_is_known_by_its_name(ledger: Ledger):
    assert await find_manifest(ledger, "m") is None
    await plan(ledger, [job(0)])
    found = await find_manifest(ledger, "m")
    assert found is not None
    assert found[1:] == ("fingerprint", str(OUTPUT))
    planning = await staged(ledger, job(0))
    changed = Source("m", Path("/new/m.yaml"), "other", Path("/new"))
    await planning.adopt([changed], NOW + 1)
    assert await find_manifest(ledger, "m") == (found[0], "other", "/new")


async def test_all_of_a_plan_is_adopted_or_nothing(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    before = await sql(ledger, "SELECT * FROM jobs")
    homeless = job(7, manifest="nobody", output="x.{ext}")
    planning = await staged(ledger, job(1, tags=("new",)), job(2), homeless)
    with pytest.raises(LedgerError):
        await planning.adopt([source("m"), source("n")], NOW)
    assert await sql(ledger, "SELECT * FROM jobs") == before
    assert await find_manifest(ledger, "n") is None


async def test_a_removed_job_stays_and_is_not_run(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    await plan(ledger, [job(1)])
    manifest = await column(ledger, "manifest_key")
    assert [record.id for record in await ledger.pending(manifest, 0, 9, NOW)] == ["j1"]
    assert (await get(ledger, "j0")).state is State.PENDING
    assert (await counts(ledger))["m"].removed == 1


async def test_a_removed_job_in_flight_is_still_collected(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    await bring(ledger, State.SUBMITTED)
    await plan(ledger, [job(1)])
    assert [record.id for record in await ledger.submitted()] == ["j0"]


@pytest.mark.parametrize("state", State)
async def test_a_removed_job_that_comes_back_is_where_it_was(ledger: Ledger, state: State):
    await plan(ledger, [job(0), job(1)])
    await bring(ledger, state)
    before = await get(ledger)
    await plan(ledger, [job(1)])
    await plan(ledger, [job(0), job(1)])
    assert await get(ledger) == before
    assert await column(ledger, "wanted") == 1


async def test_a_manifest_without_jobs_removes_all_of_its_own_and_no_others(ledger: Ledger):
    await plan(ledger, [job(0), job(1, manifest="n")])
    planning = await staged(ledger)
    await planning.adopt([source("m")], NOW)
    assert await sql(ledger, "SELECT id, wanted FROM jobs") == [("j0", 0), ("j1", 1)]


@pytest.mark.parametrize("state", State)
async def test_what_costs_nothing_to_change_never_moves_a_job(ledger: Ledger, state: State):
    await plan(ledger, [job(0)])
    before = await bring(ledger, state)
    changed = job(0, tags=("new",), meta={"x": 1}, index=9, output="new.{ext}", source="m.yaml:9")
    await plan(ledger, [changed])
    after = await get(ledger)
    name = before.output if state is State.SAVED else "new.{ext}"
    assert after == replace(before, index=9, output=name)
    assert await column(ledger, "tags") == '["new"]'
    assert await column(ledger, "meta") == '{"x":1}'
    assert await column(ledger, "source") == "m.yaml:9"


SENT = [
    State.SUBMITTING,
    State.SUBMITTED,
    State.COMPLETED,
    State.SAVED,
    State.IN_DOUBT,
    # Its result may still be recovered, and is that of the request as it was sent.
    State.EXPIRED,
]


@pytest.mark.parametrize("state", SENT)
async def test_a_changed_request_under_a_sent_id_keeps_the_result_of_the_sent_one(
    ledger: Ledger, state: State
):
    await plan(ledger, [job(0)])
    before = await bring(ledger, state)
    changed = job(0, params={"prompt": "new"}, model="other")
    assert (await compared(ledger, changed)).changed == 1
    await plan(ledger, [changed])
    assert await get(ledger) == before


@pytest.mark.parametrize("state", [s for s in State if s not in SENT])
async def test_a_corrected_request_under_an_id_that_came_to_nothing_is_sent_by_the_next_run(
    ledger: Ledger, state: State
):
    await plan(ledger, [job(0)])
    await bring(ledger, state)
    changed = job(0, params={"prompt": "new"}, model="other")
    assert (await compared(ledger, changed)).changed == 0
    await plan(ledger, [changed])
    after = await get(ledger)
    assert (after.state, after.model) == (State.PENDING, "other")
    assert after.params == {"prompt": "new"}


# Comparing


async def test_a_comparison_tells_what_a_run_would_find(ledger: Ledger):
    await plan(ledger, [job(0), job(1), job(2)])
    await bring(ledger, State.SAVED, "j1")
    found = await compared(ledger, job(1), job(2), job(3), job(4, model="other"))
    assert set(found.groups) == {
        Group("m", "imagen", State.SAVED, sent_before=True, retried=False, count=1),
        Group("m", "imagen", State.PENDING, sent_before=False, retried=False, count=1),
        Group("m", "imagen", None, sent_before=False, retried=False, count=1),
        Group("m", "other", None, sent_before=False, retried=False, count=1),
    }
    assert (found.removed, found.changed) == (1, 0)


async def test_comparing_changes_nothing(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    await bring(ledger, State.SAVED)
    tables = ("jobs", "manifests", "files", "attempts", "results")
    before = [await sql(ledger, f"SELECT * FROM {name}") for name in tables]  # noqa: S608
    version = await sql(ledger, "PRAGMA data_version")
    planning = await staged(ledger, job(1, tags=("x",)), job(2))
    await planning.check(OUTPUT)
    await planning.compare(["m"])
    await planning.end()
    assert [await sql(ledger, f"SELECT * FROM {name}") for name in tables] == before  # noqa: S608
    assert await sql(ledger, "PRAGMA data_version") == version


async def test_comparing_needs_no_lock_on_the_ledger(ledger: Ledger, tmp_path: Path):
    await plan(ledger, [job(0)])
    async with await Ledger.open(tmp_path / "l.db", durable=False) as other:
        await sql(other, "BEGIN IMMEDIATE")
        assert (await compared(ledger, job(0), job(1))).removed == 0
        await sql(other, "ROLLBACK")


async def test_notes_are_passed_on(ledger: Ledger):
    planning = await staged(ledger, job(0))
    assert (await planning.compare(["m"], ["a note"])).notes == ("a note",)


async def test_a_new_plan_starts_with_an_empty_stage(ledger: Ledger):
    await staged(ledger, job(0))
    assert (await compared(ledger, job(1))).groups == (
        Group("m", "imagen", None, sent_before=False, retried=False, count=1),
    )


# Size


async def test_fifty_thousand_jobs_are_planned_in_seconds(ledger: Ledger):
    number = 50_000
    jobs = [job(n) for n in range(number)]
    started = time.monotonic()
    planning = Planning(ledger)
    for _ in range(2):
        await planning.begin()
        for first in range(0, number, 1000):
            await planning.stage(jobs[first : first + 1000])
        assert await planning.check(OUTPUT) == []
        await planning.compare(["m"])
        await planning.adopt([source()], NOW)
        await planning.end()
        await sql(ledger, "UPDATE jobs SET state = 'saved' WHERE job_key % 2 = 0")
    assert (await counts(ledger))["m"].total == number
    assert time.monotonic() - started < 20
