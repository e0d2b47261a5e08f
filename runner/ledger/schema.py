"""The ledger's tables and how an older ledger becomes a newer one.

`user_version` is the schema's version. A migration is one entry of MIGRATIONS: the statements that
lead from version i to i + 1, run in one transaction; entries are only ever added.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from runner.errors import LedgerTooNew, LedgerUnreadable
from runner.ledger.connection import transaction
from runner.ledger.counters import COUNTERS

APPLICATION_ID = 0x52554E52  # "RUNR"
WAL_TRIES = 20

_FIRST = """
CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE manifests (
  manifest_key INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL,
  output_directory TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  planned_at REAL NOT NULL
);

CREATE TABLE jobs (
  job_key INTEGER PRIMARY KEY,
  manifest_key INTEGER NOT NULL REFERENCES manifests,
  id TEXT NOT NULL,
  model TEXT NOT NULL,
  params TEXT NOT NULL,
  tags TEXT NOT NULL,
  meta TEXT NOT NULL,
  place INTEGER NOT NULL,
  repeat INTEGER NOT NULL,
  output TEXT NOT NULL,
  source TEXT NOT NULL,
  wanted INTEGER NOT NULL DEFAULT 1,
  state TEXT NOT NULL DEFAULT 'pending',
  posts INTEGER NOT NULL DEFAULT 0,
  refusals INTEGER NOT NULL DEFAULT 0,
  retries INTEGER NOT NULL DEFAULT 0,
  requeues INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0,
  request_id TEXT,
  submitted_at REAL,
  deadline REAL,
  completed_at REAL,
  cost REAL,
  error TEXT,
  UNIQUE (manifest_key, id)
);
CREATE INDEX jobs_pending ON jobs (manifest_key, job_key) WHERE state = 'pending';
CREATE INDEX jobs_submitting ON jobs (job_key) WHERE state = 'submitting';
CREATE INDEX jobs_submitted ON jobs (deadline) WHERE state = 'submitted';
CREATE INDEX jobs_completed ON jobs (job_key) WHERE state = 'completed';
CREATE INDEX jobs_in_doubt ON jobs (job_key) WHERE state = 'in_doubt';
CREATE INDEX jobs_expired ON jobs (job_key) WHERE state = 'expired';
CREATE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_by_time ON jobs (submitted_at) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_counted ON jobs (manifest_key, wanted, state, cost);

CREATE TABLE results (
  job_key INTEGER PRIMARY KEY REFERENCES jobs,
  body TEXT NOT NULL
);

CREATE TABLE files (
  job_key INTEGER NOT NULL REFERENCES jobs,
  n INTEGER NOT NULL,
  url TEXT,
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  content_type TEXT NOT NULL,
  PRIMARY KEY (job_key, n)
) WITHOUT ROWID;
CREATE INDEX files_by_path ON files (path);
CREATE INDEX files_by_hash ON files (sha256);

CREATE TABLE attempts (
  attempt_key INTEGER PRIMARY KEY,
  job_key INTEGER NOT NULL REFERENCES jobs,
  at REAL NOT NULL,
  action TEXT NOT NULL,
  status INTEGER,
  detail TEXT,
  request_id TEXT
);
CREATE INDEX attempts_by_job ON attempts (job_key);
CREATE INDEX attempts_by_request ON attempts (request_id) WHERE request_id IS NOT NULL;
"""

# Files that jobs send. `jobs.inputs`: sha256 by name. `looks`: what a file held when it was looked at,
# true while its size, time and inode stay. `uploads`: every address that a content ever had.
_INPUTS = """
ALTER TABLE jobs ADD COLUMN inputs TEXT NOT NULL DEFAULT '{}';
CREATE INDEX jobs_with_inputs ON jobs (manifest_key) WHERE length(inputs) > 2;

CREATE TABLE looks (
  path TEXT PRIMARY KEY,
  size_bytes INTEGER NOT NULL,
  modified_ns INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  content_type TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX looks_by_hash ON looks (sha256);

CREATE TABLE uploads (
  url TEXT PRIMARY KEY,
  sha256 TEXT NOT NULL,
  host TEXT NOT NULL,
  uploaded_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_hash ON uploads (sha256, host, uploaded_at);
"""

# What a file came as, where something was added to it before it was saved: only by that can the same
# placeholder for different prompts be told.
_RECEIVED_HASH = """
ALTER TABLE files ADD COLUMN received_sha256 TEXT;
CREATE INDEX files_by_received_hash ON files (coalesce(received_sha256, sha256));
DROP INDEX files_by_hash;
"""

# When a job was sent by the server's clock, which our own says nothing of once it was set: `server_at` at
# the intent, `server_until` when its POST had ended without an answer.
_SERVER_TIME = """
ALTER TABLE jobs ADD COLUMN server_at REAL;
ALTER TABLE jobs ADD COLUMN server_until REAL;
CREATE INDEX jobs_by_server_time ON jobs (server_at) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_put_off ON jobs (not_before) WHERE state = 'pending' AND not_before > 0;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _INPUTS, _RECEIVED_HASH, COUNTERS, _SERVER_TIME)
VERSION = len(MIGRATIONS)


def prepare(database: sqlite3.Connection, path: Path | str) -> None:
    """Makes the schema in an empty file, or brings an older one up to this version.

    Raises LedgerTooNew for a newer one and LedgerUnreadable for a database that is no ledger.
    """
    with transaction(database, "DEFERRED"):
        version = _number(database, "PRAGMA user_version")
        application_id = _number(database, "PRAGMA application_id")
        tables = _number(database, "SELECT count(*) FROM sqlite_master")
    if tables and application_id != APPLICATION_ID:
        raise LedgerUnreadable(
            f"{path} is a database of another program; name another with --ledger"
        )
    if version > VERSION:
        raise LedgerTooNew(
            f"the ledger {path} was written by a newer runner (schema {version}, this one knows {VERSION}); "
            "upgrade with `pip install --upgrade segmind-runner`"
        )
    # Written into the file itself, and so only into one that is ours.
    _write_ahead(database)
    if version == VERSION:
        return
    with transaction(database):
        # Asked again: another program may have been quicker.
        for script in MIGRATIONS[_number(database, "PRAGMA user_version") :]:
            for statement in _statements(script):
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {VERSION}")


def _write_ahead(database: sqlite3.Connection) -> None:
    for _ in range(WAL_TRIES):
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        # The switch does not wait for a program that is just making the file; a transaction does.
        with transaction(database):
            pass
    database.execute("PRAGMA journal_mode = WAL")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger, which has semicolons inside, is one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _number(database: sqlite3.Connection, query: str) -> int:
    return int(database.execute(query).fetchone()[0])
