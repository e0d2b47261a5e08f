"""What the ledger knows of the files that jobs send: what they hold, and where they were uploaded to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from runner.ledger import inputs_queries
from runner.ledger.connection import transaction
from runner.ledger.ledger import Ledger
from runner.references import digest_in


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file may have changed, without reading it; `path` is its real name."""

    path: str
    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What a file with this stamp holds."""

    stamp: Stamp
    sha256: str
    content_type: str


async def looks_from(ledger: Ledger, path: str, limit: int) -> list[Looked]:
    """What files held, in the order of their paths, from `path` on."""
    rows = await ledger.call(
        lambda database: database.execute(
            inputs_queries.LOOKS_FROM, {"path": path, "limit": limit}
        ).fetchall()
    )
    return [Looked(Stamp(*row[:4]), *row[4:]) for row in rows]


async def remember_looks(ledger: Ledger, looks: Sequence[Looked]) -> None:
    """Remembers what some files hold."""
    rows = [
        {**asdict(each.stamp), "sha256": each.sha256, "content_type": each.content_type}
        for each in looks
    ]

    def work(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.executemany(inputs_queries.PUT_LOOK, rows)

    await ledger.call(work)


async def forget_looks(ledger: Ledger, paths: Iterable[str]) -> None:
    """Has some files looked at anew the next time, whatever their stamps say."""
    rows = [{"path": path} for path in paths]

    def work(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.executemany(inputs_queries.FORGET_LOOK, rows)

    await ledger.call(work)


async def inputs_of(ledger: Ledger, manifest: int) -> dict[str, str]:
    """The files that a manifest's jobs send and what they were to hold: sha256 by name."""
    rows = await ledger.call(
        lambda database: database.execute(
            inputs_queries.INPUTS_OF_MANIFEST, {"manifest": manifest}
        ).fetchall()
    )
    return {file: sha256 for (inputs,) in rows for file, sha256 in json.loads(inputs).items()}


async def are_unchanged(ledger: Ledger, files: Iterable[tuple[Stamp, str]]) -> bool:
    """Whether each of these files was looked at, held this sha256 and has not changed since."""

    def work(database: sqlite3.Connection) -> bool:
        for stamp, sha256 in files:
            row = database.execute(inputs_queries.LOOK, asdict(stamp)).fetchone()
            if row is None or row[0] != sha256:
                return False
        return True

    return await ledger.call(work)


async def upload_of(ledger: Ledger, sha256: str, host: str, since: float, job: int) -> str | None:
    """The address of a content that was uploaded to `host` after `since` and after the job's last retry."""
    values = {"sha256": sha256, "host": host, "since": since, "job": job}
    rows = await ledger.call(
        lambda database: database.execute(inputs_queries.UPLOAD_OF, values).fetchall()
    )
    return str(rows[0][0]) if rows else None


async def remember_upload(ledger: Ledger, url: str, sha256: str, host: str, now: float) -> None:
    """Remembers where a content is, before any job refers to it there."""
    values = {"url": url, "sha256": sha256, "host": host, "at": now}

    def work(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.execute(inputs_queries.PUT_UPLOAD, values)

    await ledger.call(work)


async def contents_of(ledger: Ledger, locations: Iterable[str]) -> dict[str, str]:
    """Which contents some addresses and digested data URLs stand for, as far as the ledger knows them."""
    wanted = set(locations)

    def work(database: sqlite3.Connection) -> dict[str, str]:
        found: dict[str, str] = {}
        for text in wanted:
            sha256 = digest_in(text)
            if sha256 is not None:
                is_known = database.execute(
                    inputs_queries.IS_CONTENT, {"sha256": sha256}
                ).fetchone()[0]
                found |= {text: sha256} if is_known else {}
            elif row := database.execute(inputs_queries.CONTENT_AT, {"url": text}).fetchone():
                found[text] = row[0]
        return found

    return await ledger.call(work) if wanted else {}
