"""What people and reports read from the ledger; nothing here changes it, but for `retry`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from runner.job import RETRYABLE_STATES, Attempt, SavedFile, State
from runner.ledger import queries, reading_queries
from runner.ledger.connection import transaction
from runner.ledger.ledger import Ledger
from runner.ledger.records import Counts, Listed, listed_record

PAGE = 500


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs are meant: of these manifests (all when empty), in these states, with these ids or keys."""

    manifests: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    ids: tuple[str, ...] = ()

    removed: bool = False
    keys: tuple[int, ...] = ()

    def condition(self) -> tuple[str, dict[str, Any]]:
        """The SQL condition over `jobs` and its values; `removed` jobs count only where asked for."""
        parts, values = ["true" if self.removed else "wanted = 1"], dict[str, Any]()
        if self.manifests:
            names = _named("manifest", self.manifests, values)
            parts.append(
                f"manifest_key IN (SELECT manifest_key FROM manifests WHERE name IN ({names}))"  # noqa: S608
            )
        if self.states:
            parts.append(f"state IN ({_named('state', self.states, values)})")
        if self.ids:
            parts.append(f"id IN ({_named('id', self.ids, values)})")
        if self.keys:
            parts.append(f"job_key IN ({', '.join(str(int(key)) for key in self.keys)})")
        return " AND ".join(parts), values


async def counts(ledger: Ledger) -> dict[str, Counts]:
    """How the jobs of each manifest stand, by its name."""
    rows = await ledger.call(lambda database: database.execute(reading_queries.COUNTS).fetchall())
    found: dict[str, Counts] = {}
    for name, wanted, state, count, cost in rows:
        entry = found.setdefault(name, Counts(name))
        entry.spent += cost or 0.0
        if wanted:
            entry.states[State(state)] = count
        else:
            entry.removed += count
    return found


async def next_deadline(ledger: Ledger) -> float | None:
    """When the API forgets the first of the jobs in flight, in epoch seconds."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.NEXT_DEADLINE).fetchall()
    )
    return rows[0][0] if rows else None


async def causes(
    ledger: Ledger, manifests: Sequence[int], limit: int = 5
) -> list[tuple[State, str, int]]:
    """Why jobs are not saved, the most frequent reason first."""
    keys = ", ".join(str(int(key)) for key in manifests) or "NULL"
    query = reading_queries.CAUSES.format(manifests=keys)
    rows = await ledger.call(lambda database: database.execute(query, {"limit": limit}).fetchall())
    return [(State(state), reason, count) for state, reason, count in rows]


async def listed(ledger: Ledger, selection: Selection) -> AsyncIterator[Listed]:
    """The selected jobs in the ledger's order, a page at a time."""
    condition, values = selection.condition()
    query = reading_queries.LIST_JOBS.format(condition=condition)
    after = 0
    while True:
        page = await ledger.call(partial(_page, query=query, values={**values, "after": after}))
        for job in page:
            yield job
        if len(page) < PAGE:
            return
        after = page[-1].key


async def attempts(ledger: Ledger, key: int) -> list[Attempt]:
    """One job's history in order."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.ATTEMPTS, {"job": key}).fetchall()
    )
    return [Attempt(*row) for row in rows]


async def retry(ledger: Ledger, selection: Selection, now: float) -> int:
    """Puts the selected jobs that ended short of saved back to pending; says how many."""
    states = tuple(s for s in selection.states if s in RETRYABLE_STATES) or tuple(RETRYABLE_STATES)
    chosen = Selection(selection.manifests, states, selection.ids)
    condition, values = chosen.condition()

    def work(database: sqlite3.Connection) -> int:
        with transaction(database):
            database.execute(
                queries.RETRY_HISTORY.format(condition=condition), {**values, "at": now}
            )
            return database.execute(queries.RETRY.format(condition=condition), values).rowcount

    count: int = await ledger.call(work)
    return count


async def count_selected(ledger: Ledger, selection: Selection) -> int:
    """How many jobs are meant."""
    condition, values = selection.condition()
    query = reading_queries.COUNT_SELECTED.format(condition=condition)
    rows = await ledger.call(lambda database: database.execute(query, values).fetchall())
    return int(rows[0][0])


async def faults(ledger: Ledger) -> list[str]:
    """What is wrong with the file as a database; empty when it is sound."""
    rows = await ledger.call(lambda database: database.execute(reading_queries.CHECK).fetchall())
    return [row[0] for row in rows if row[0] != "ok"]


@dataclass(frozen=True, slots=True)
class ModelMoney:
    """What a model's jobs have cost so far, in US dollars."""

    model: str
    jobs: int
    spent: float


async def money_by_model(ledger: Ledger, manifests: Sequence[str]) -> list[ModelMoney]:
    """What the jobs of some manifests (all when empty) have cost, model by model."""
    condition, values = Selection(tuple(manifests), removed=True).condition()
    query = reading_queries.MONEY_BY_MODEL.format(condition=condition)
    rows = await ledger.call(lambda database: database.execute(query, values).fetchall())
    return [ModelMoney(*row) for row in rows]


async def saved_files(ledger: Ledger) -> dict[str, int]:
    """How many files the saved jobs of each manifest have, by its name."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.SAVED_FILES).fetchall()
    )
    return dict(rows)


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """What a model's finished jobs cost (US dollars) and took (seconds), on average and at most."""

    jobs: int
    cost: float | None
    latency_s: float | None
    highest_cost: float | None


async def model_history(ledger: Ledger) -> dict[str, ModelHistory]:
    """What is known of each model from its finished jobs."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.MODEL_HISTORY).fetchall()
    )
    return {model: ModelHistory(*rest) for model, *rest in rows}


async def recent_latencies(ledger: Ledger, limit: int = 1000) -> dict[str, list[float]]:
    """Seconds from submit to result of the latest jobs, by model, the last one first."""
    values = {"limit": limit}
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.RECENT_LATENCIES, values).fetchall()
    )
    found: dict[str, list[float]] = {}
    for model, seconds in rows:
        found.setdefault(model, []).append(seconds)
    return found


async def pending_by_model(ledger: Ledger, manifests: Sequence[int]) -> dict[str, int]:
    """How many jobs of each model wait to be sent in some manifests, by their ledger keys."""
    keys = ", ".join(str(int(key)) for key in manifests) or "NULL"
    query = reading_queries.PENDING_BY_MODEL.format(manifests=keys)
    rows = await ledger.call(lambda database: database.execute(query).fetchall())
    return dict(rows)


async def manifest_names(ledger: Ledger) -> list[str]:
    """The manifests the ledger knows, the oldest first."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.MANIFEST_NAMES).fetchall()
    )
    return [row[0] for row in rows]


@dataclass(frozen=True, slots=True)
class OutputState:
    """Whose files are under an output directory, and a text that changes with anything about them."""

    manifests: tuple[str, ...]
    version: str


async def output_state(ledger: Ledger, output_directory: str) -> OutputState:
    """The manifests that are saved under a directory; asks for little, however many jobs they have."""

    def work(database: sqlite3.Connection) -> OutputState:
        rows = database.execute(
            reading_queries.MANIFESTS_OF_OUTPUT, {"output_directory": output_directory}
        ).fetchall()
        last = database.execute(reading_queries.LAST_ATTEMPT).fetchone()[0]
        return OutputState(tuple(row[0] for row in rows), json.dumps([last, rows]))

    return await ledger.call(work)


def _page(database: sqlite3.Connection, query: str, values: dict[str, Any]) -> list[Listed]:
    rows = database.execute(query, {**values, "limit": PAGE}).fetchall()
    if not rows:
        return []
    files: dict[int, list[SavedFile]] = {}
    bounds = {"first": rows[0][0], "last": rows[-1][0]}
    for key, *file in database.execute(reading_queries.FILES_OF_PAGE, bounds):
        files.setdefault(key, []).append(SavedFile(*file))
    return [listed_record(row, files.get(row[0], [])) for row in rows]


def _named(name: str, items: Sequence[str], values: dict[str, Any]) -> str:
    keys = [f"{name}_{position}" for position in range(len(items))]
    values.update(zip(keys, items, strict=True))
    return ", ".join(f":{key}" for key in keys)
