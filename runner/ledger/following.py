"""What whoever follows a run reads from the ledger: single jobs as they end, and where their files are."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from runner.job import SavedFile
from runner.ledger import queries, reading_queries
from runner.ledger.ledger import Ledger
from runner.ledger.records import Listed, listed_record

JobName = tuple[str, str]
"""A job by its manifest's name and its id."""


async def listed_by_name(ledger: Ledger, names: Sequence[JobName]) -> list[Listed]:
    """These jobs in this order; those that the ledger does not know are left out."""

    def work(database: sqlite3.Connection) -> list[Listed]:
        found = []
        for manifest, job_id in names:
            values = {"manifest": manifest, "id": job_id}
            row = database.execute(reading_queries.LIST_ONE, values).fetchone()
            if row is not None:
                files = database.execute(queries.FILES, {"job": row[0]})
                found.append(listed_record(row, [SavedFile(*file) for file in files]))
        return found

    return await ledger.call(work)


async def ended_short_since(
    ledger: Ledger, manifests: Sequence[str], since: float
) -> list[JobName]:
    """The jobs of these manifests that ended short of saved at `since` or later, and still are there."""

    def work(database: sqlite3.Connection) -> list[JobName]:
        return [
            (manifest, job_id)
            for manifest in manifests
            for (job_id,) in database.execute(
                reading_queries.ENDED_SHORT_SINCE, {"manifest": manifest, "since": since}
            )
        ]

    return await ledger.call(work)


async def output_folders(ledger: Ledger) -> dict[str, Path]:
    """The folder that each manifest's files are in, by its name."""
    rows = await ledger.call(
        lambda database: database.execute(reading_queries.OUTPUT_FOLDERS).fetchall()
    )
    return {name: Path(folder) for name, folder in rows}
