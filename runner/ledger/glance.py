"""A glance at a ledger that somebody else may be working on: read-only, and never brought up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

IDS_BEGINNING = """
SELECT DISTINCT id FROM jobs WHERE wanted = 1 AND substr(id, 1, length(:begin)) = :begin
ORDER BY job_key LIMIT :limit"""


def ids_beginning(ledger: Path, begin: str, limit: int) -> list[str]:
    """Ids of jobs that begin so, in the ledger's order. Raises sqlite3.Error for what is no ledger."""
    address = f"{ledger.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as database:
        values = {"begin": begin, "limit": limit}
        return [row[0] for row in database.execute(IDS_BEGINNING, values)]
