"""From expanded manifests to jobs in the ledger: staged on disk, compared, adopted in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os.path import normcase
from pathlib import Path

from runner.errors import InputError, Problem
from runner.job import Job, State
from runner.ledger import planning_queries, queries
from runner.ledger.connection import transaction
from runner.ledger.ledger import Ledger
from runner.ledger.records import compact

PROBLEM_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Group:
    """How many jobs of one manifest and model stand where. `state` None: not in the ledger yet."""

    manifest: str
    model: str
    state: State | None
    sent_before: bool
    retried: bool
    count: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a run would find: groups, and what is worth telling."""

    groups: tuple[Group, ...]
    removed: int
    changed: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class Source:
    """A manifest to be planned: its name, its file and what tells one version from another."""

    name: str
    path: Path
    fingerprint: str
    output_directory: Path
    key: int = 0
    notes: list[str] = field(default_factory=list)


class Planning:
    """A staging area for the manifests of one run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def begin(self) -> None:
        """Makes an empty staging area."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DROP TABLE IF EXISTS temp.stage")
            database.execute(planning_queries.CREATE_STAGE)

        await self._ledger.call(work)

    async def stage(self, jobs: Sequence[Job]) -> None:
        """Takes some more jobs in, in the order of their manifest."""
        rows = [_staged(job) for job in jobs]

        def work(database: sqlite3.Connection) -> None:
            with transaction(database, "DEFERRED"):
                database.executemany(planning_queries.STAGE, rows)

        await self._ledger.call(work)

    async def check(self, output_directory: Path) -> list[str]:
        """Notes on requests written twice. Raises InputError for jobs that exclude each other."""
        notes, problems = await self._ledger.call(
            lambda database: _check(database, str(output_directory))
        )
        if problems:
            raise InputError(problems[:PROBLEM_LIMIT], more=len(problems) > PROBLEM_LIMIT)
        return list(notes)

    async def compare(self, names: Iterable[str], notes: Sequence[str] = ()) -> Comparison:
        """What the ledger knows of the staged jobs; writes nothing that lasts."""

        def work(database: sqlite3.Connection) -> Comparison:
            groups = tuple(
                Group(
                    manifest, model, State(state) if state else None, bool(sent), bool(retried), n
                )
                for manifest, model, state, sent, retried, n in database.execute(
                    planning_queries.COMPARE
                )
            )
            removed = sum(
                database.execute(planning_queries.COUNT_REMOVED, {"manifest": name}).fetchone()[0]
                for name in names
            )
            changed = database.execute(planning_queries.COUNT_CHANGED).fetchone()[0]
            return Comparison(groups, removed, changed, tuple(notes))

        return await self._ledger.call(work)

    async def adopt(self, sources: Sequence[Source], now: float) -> None:
        """Makes the staged jobs the ledger's own, all of them or none."""

        def work(database: sqlite3.Connection) -> None:
            with transaction(database):
                for source in sources:
                    values = {
                        "name": source.name,
                        "path": str(source.path),
                        "output_directory": str(source.output_directory),
                        "fingerprint": source.fingerprint,
                        "at": now,
                    }
                    database.execute(queries.PUT_MANIFEST, values)
                    database.execute(planning_queries.ADOPT_REMOVED, {"manifest": source.name})
                database.execute(planning_queries.ADOPT)

        await self._ledger.call(work)

    async def end(self) -> None:
        """Drops the staging area."""
        await self._ledger.call(
            lambda database: database.execute("DROP TABLE IF EXISTS temp.stage")
        )


async def find_manifest(ledger: Ledger, name: str) -> tuple[int, str, str] | None:
    """The key, fingerprint and output directory of a manifest the ledger knows."""
    rows = await ledger.call(
        lambda database: database.execute(queries.FIND_MANIFEST, {"name": name}).fetchall()
    )
    return (rows[0][0], rows[0][1], rows[0][2]) if rows else None


def _staged(job: Job) -> tuple[object, ...]:
    target = normcase(job.output.format(n=0, ext="*"))
    return (
        job.manifest,
        job.id,
        job.model,
        compact(job.params),
        compact(list(job.tags)),
        compact(job.meta),
        job.index,
        job.repeat,
        job.output,
        target,
        job.source,
        compact(job.inputs),
    )


def _check(database: sqlite3.Connection, output_directory: str) -> tuple[list[str], list[Problem]]:
    limit = {"limit": PROBLEM_LIMIT + 1}
    problems: list[Problem] = []
    copies: list[str] = []
    for manifest, job_id, source, other, _, clash in database.execute(
        planning_queries.STAGED_COPIES, limit
    ):
        if clash:
            message = f"the id `{job_id}` is used twice in `{manifest}`, also at {other}; give each its own"
            problems.append(_problem(source, message))
        else:
            copies.append(f"{other} repeats {source}")
    notes = _copies_note(database, copies)
    for target, first, second, count in database.execute(planning_queries.STAGED_COLLISIONS, limit):
        more = f" and {count - 2} more" if count > 2 else ""
        message = (
            f"this job and the one at {second}{more} would write one file, {_shown(target)}; "
            "add {id}, {index} or {repeat} to `output`"
        )
        problems.append(_problem(first, message))
    owned = {**limit, "output_directory": output_directory}
    for source, target, owner in database.execute(planning_queries.OWNED_COLLISIONS, owned):
        message = (
            f"{_shown(target)} is already the file of job {owner}, saved by an earlier run; use {{id}} in "
            "`output` so that names stay when lines move, or another output directory"
        )
        problems.append(_problem(source, message))
    return notes, problems


def _copies_note(database: sqlite3.Connection, copies: list[str]) -> list[str]:
    if not copies:
        return []
    total = database.execute(planning_queries.STAGED_COPIES_TOTAL).fetchone()[0]
    shown = "; ".join(copies[:3]) + (f"; and {total - 3} more" if total > 3 else "")
    times = "request is" if total == 1 else "requests are"
    return [
        f"{total} {times} written twice and rendered once ({shown}); `repeat: 2` renders one twice"
    ]


def _problem(source: str, message: str) -> Problem:
    file, _, line = source.rpartition(":")
    return (
        Problem(file, message, int(line)) if file and line.isdigit() else Problem(source, message)
    )


def _shown(target: str) -> str:
    return target.removesuffix(".*")
