"""What keeps a ledger of a million jobs quick: counters kept by the database, old stories made short."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import NOW, bring, get, job, picture, plan, sql

from runner.job import State
from runner.ledger import Event, Ledger
from runner.ledger.compaction import PAGE, compact
from runner.ledger.reading import attempts, counts, model_history, money_by_model, saved_files
from runner.ledger.schema import MIGRATIONS, prepare

LATER = NOW + 30 * 86400.0
RECOUNT = """
SELECT manifest_key, model, wanted, state, count(*), count(cost),
  CAST(sum(round(coalesce(cost, 0) * 1e9)) AS INTEGER), sum(files)
FROM jobs GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
COUNTED = """
SELECT manifest_key, model, wanted, state, jobs, priced, nanodollars, files FROM job_counters
WHERE jobs <> 0 OR priced <> 0 OR nanodollars <> 0 OR files <> 0 ORDER BY 1, 2, 3, 4"""


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as opened:
        yield opened


async def actions(ledger: Ledger, job_id: str = "j0") -> list[str]:
    return [step.action for step in await attempts(ledger, (await get(ledger, job_id)).key)]


Change = tuple[str, int, object]
STATES = [str(state) for state in State]
changes = st.lists(
    st.one_of(
        st.tuples(st.just("state"), st.integers(0, 3), st.sampled_from(STATES)),
        st.tuples(st.just("cost"), st.integers(0, 3), st.one_of(st.none(), st.floats(0, 100))),
        st.tuples(st.just("wanted"), st.integers(0, 3), st.integers(0, 1)),
        st.tuples(st.just("model"), st.integers(0, 3), st.sampled_from(["imagen", "flux"])),
        st.tuples(st.just("files"), st.integers(0, 3), st.integers(0, 4)),
        st.tuples(st.just("gone"), st.integers(0, 3), st.none()),
    ),
    max_size=30,
)


@given(changes)
@settings(max_examples=60, deadline=None)
def test_the_counters_equal_a_recount_whatever_is_written(steps: list[Change]):
    database = sqlite3.connect(":memory:", isolation_level=None)
    prepare(database, ":memory:")
    database.execute("INSERT INTO manifests VALUES (1, 'm', 'm', 'o', 'f', 0)")
    for number in range(4):
        database.execute(
            "INSERT INTO jobs (job_key, manifest_key, id, model, params, tags, meta, place, repeat, output,"
            " source) VALUES (?, 1, ?, 'imagen', '{}', '[]', '{}', 0, 0, '', '')",
            (number, str(number)),
        )
    for name, number, value in steps:
        if name == "gone":
            database.execute("DELETE FROM jobs WHERE job_key = ?", (number,))
        else:
            database.execute(f"UPDATE jobs SET {name} = ? WHERE job_key = ?", (value, number))  # noqa: S608
    assert database.execute(COUNTED).fetchall() == database.execute(RECOUNT).fetchall()
    database.close()


async def test_a_ledger_without_counters_gets_them_with_all_that_it_holds(tmp_path: Path):
    database = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    database.executescript(MIGRATIONS[0])
    database.executescript(
        """INSERT INTO manifests VALUES (1, 'm', 'm', 'o', 'f', 0);
        INSERT INTO jobs (manifest_key, id, model, params, tags, meta, place, repeat, output, source, state,
          cost, submitted_at, completed_at)
        VALUES (1, 'a', 'imagen', '{}', '[]', '{}', 0, 0, '', '', 'saved', 0.04, 10, 22),
          (1, 'b', 'imagen', '{}', '[]', '{}', 0, 0, '', '', 'pending', NULL, NULL, NULL);
        INSERT INTO files VALUES (1, 0, NULL, 'a.png', 1, '', ''), (1, 1, NULL, 'b.png', 1, '', '');
        PRAGMA application_id = 1381322322; PRAGMA user_version = 1;"""
    )
    database.close()
    async with await Ledger.open(tmp_path / "old.db", durable=False) as ledger:
        found = (await counts(ledger))["m"]
        assert found.states == {State.SAVED: 1, State.PENDING: 1}
        assert found.spent == 0.04
        assert await saved_files(ledger) == {"m": 2}
        assert (await model_history(ledger))["imagen"].latency_s == 12
        assert [each.jobs for each in await money_by_model(ledger, ())] == [1]


async def test_the_story_of_a_job_that_was_saved_long_ago_is_made_short(ledger: Ledger):
    await plan(ledger, [job(0)])
    await bring(ledger, State.SAVED)
    assert await actions(ledger) == ["submitting", "submitted", "completed", "saved"]
    before = (await get(ledger), (await counts(ledger))["m"].spent, await model_history(ledger))

    assert not await compact(ledger, LATER)

    assert await actions(ledger) == ["saved"]
    after = (await get(ledger), (await counts(ledger))["m"].spent, await model_history(ledger))
    assert after == before


async def test_a_recent_story_and_that_of_an_unsaved_job_stay_as_they_are(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    await bring(ledger, State.SAVED, "j0")
    await bring(ledger, State.COMPLETED, "j1")
    assert not await compact(ledger, NOW)
    assert len(await actions(ledger, "j0")) == 4
    assert not await compact(ledger, LATER)
    assert len(await actions(ledger, "j1")) == 3


async def test_what_is_out_of_the_ordinary_stays_in_a_story(ledger: Ledger):
    await plan(ledger, [job(0)])
    record = await get(ledger)
    await ledger.begin_submit(record, NOW, NOW)
    await ledger.refuse(await get(ledger), 0, Event(NOW, 503, "busy"))
    await bring(ledger, State.SAVED)
    await compact(ledger, LATER)
    assert "pending" in await actions(ledger)


async def test_ids_that_were_ever_used_stay_known_after_compaction(ledger: Ledger):
    await plan(ledger, [job(0), job(1)])
    await bring(ledger, State.SAVED, "j0")
    await bring(ledger, State.EXPIRED, "j1")
    expired = await get(ledger, "j1")
    await ledger.requeue(expired, Event(NOW, detail="it was never taken"))
    record = await get(ledger, "j1")
    await ledger.begin_submit(record, NOW, NOW)
    await ledger.accept(await get(ledger, "j1"), "second", Event(NOW))
    await ledger.complete(await get(ledger, "j1"), "{}", Event(NOW), 0.02)
    await ledger.save(await get(ledger, "j1"), [picture(path="1.png")], Event(NOW))

    await compact(ledger, LATER)

    ids = ["r-j0", "r-j1", "second"]
    assert await ledger.known_ids([*ids, "foreign"]) == set(ids)


async def test_an_id_that_a_compacted_job_gives_up_stays_known(ledger: Ledger):
    await plan(ledger, [job(0)])
    await bring(ledger, State.SAVED)
    await compact(ledger, LATER)
    record = await get(ledger)
    await ledger.reopen(record.key, NOW, "gone from the disk")
    await ledger.end(await get(ledger), State.EXPIRED, Event(NOW, detail="gone"))
    await ledger.requeue(await get(ledger), Event(NOW, detail="somebody chose so"))
    assert await ledger.known_ids(["r-j0"]) == {"r-j0"}


async def test_compaction_goes_on_where_it_stopped(ledger: Ledger):
    number = PAGE // 4 + 1
    await plan(ledger, [job(n) for n in range(number)])
    for n in range(number):
        await bring(ledger, State.SAVED, f"j{n}")
    assert await compact(ledger, LATER)
    assert not await compact(ledger, LATER)
    assert await sql(ledger, "SELECT count(*), max(action) FROM attempts") == [(number, "saved")]
