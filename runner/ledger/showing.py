"""What a page of results reads from the ledger: its newest jobs, and which of them changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from runner.ledger import showing_queries
from runner.ledger.ledger import Ledger
from runner.ledger.reading import PAGE, Selection, listed
from runner.ledger.records import Listed


@dataclass(frozen=True, slots=True)
class Cursor:
    """How much of the ledger has been seen: the last line of history and the last job."""

    attempt: int = 0
    job: int = 0


@dataclass(frozen=True, slots=True)
class ManifestPlace:
    """A manifest, the file it was read from and the folder that its results are in."""

    name: str
    path: str
    output_directory: str


async def cursor(ledger: Ledger) -> Cursor:
    """Where the ledger stands now."""
    rows = await ledger.call(lambda database: database.execute(showing_queries.CURSOR).fetchall())
    return Cursor(*rows[0])


async def newest_keys(ledger: Ledger, manifests: Sequence[str], most: int) -> list[int]:
    """The keys of the jobs (of all manifests when empty) that something happened to last, in order."""
    condition, values = Selection(tuple(manifests)).condition()
    query = showing_queries.NEWEST_KEYS.format(condition=condition)
    values["most"] = most
    rows = await ledger.call(lambda database: database.execute(query, values).fetchall())
    return sorted(row[0] for row in rows)


async def changed_keys(ledger: Ledger, since: Cursor, until: Cursor) -> list[int]:
    """The keys of the jobs that something happened to between two looks."""
    values = {
        "attempt": since.attempt,
        "job": since.job,
        "until": until.attempt,
        "until_job": until.job,
    }
    query = showing_queries.CHANGED_KEYS
    rows = await ledger.call(lambda database: database.execute(query, values).fetchall())
    return [row[0] for row in rows]


async def pages(
    ledger: Ledger, keys: Sequence[int], manifests: Sequence[str] = ()
) -> AsyncIterator[list[Listed]]:
    """The jobs with these keys, some hundred at a time; those of other manifests are left out."""
    for start in range(0, len(keys), PAGE):
        selection = Selection(tuple(manifests), keys=tuple(keys[start : start + PAGE]))
        yield [job async for job in listed(ledger, selection)]


async def manifest_places(ledger: Ledger) -> list[ManifestPlace]:
    """Every manifest that the ledger knows, the oldest first."""
    query = showing_queries.MANIFEST_PLACES
    rows = await ledger.call(lambda database: database.execute(query).fetchall())
    return [ManifestPlace(*row) for row in rows]


async def owners_of_path(ledger: Ledger, path: str) -> set[str]:
    """The manifests that have a job whose recorded file has exactly this path."""
    query = showing_queries.RECORDED_PATH
    rows = await ledger.call(lambda database: database.execute(query, {"path": path}).fetchall())
    return {row[0] for row in rows}
