"""What the ledger gives out: values, complete in themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.job import SavedFile, State


@dataclass(frozen=True, slots=True)
class Record:
    """A job as a step works on it. `key` is the ledger's own; times are epoch seconds.

    `server_at` and `server_until` are times of the server's clock: between them, or within the time-out
    of a POST, the API has accepted the job if it ever did. None where the server had not told its time.
    """

    key: int
    id: str
    manifest: str
    model: str
    params: Mapping[str, Any]
    output: str
    state: State
    posts: int = 0
    refusals: int = 0
    request_id: str | None = None
    submitted_at: float | None = None
    deadline: float | None = None
    index: int = 0
    repeat: int = 0
    requeues: int = 0
    server_at: float | None = None
    server_until: float | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A job as a listing shows it."""

    key: int
    id: str
    manifest: str
    model: str
    state: State
    params: Mapping[str, Any]
    tags: tuple[str, ...]
    meta: Mapping[str, Any]
    request_id: str | None
    posts: int
    submitted_at: float | None
    completed_at: float | None
    cost: float | None
    error: str | None
    source: str
    index: int
    repeat: int
    deadline: float | None
    files: tuple[SavedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file that a job is said to have on disk."""

    key: int
    id: str
    manifest: str
    model: str
    state: State
    n: int
    path: str
    size_bytes: int


@dataclass(slots=True)
class Counts:
    """How the jobs of one manifest stand. `spent` (US dollars) includes jobs no longer wanted."""

    name: str
    states: dict[State, int] = field(default_factory=dict)
    spent: float = 0.0
    removed: int = 0

    @property
    def total(self) -> int:
        return sum(self.states.values())


def work_record(row: tuple[Any, ...]) -> Record:
    """A Record from a row of the work columns."""
    (key, job_id, manifest, model, params, output, state, *rest) = row
    return Record(key, job_id, manifest, model, json.loads(params), output, State(state), *rest)


def listed_record(row: tuple[Any, ...], files: list[SavedFile]) -> Listed:
    """A Listed from a row of LIST_JOBS and its files."""
    (key, job_id, manifest, model, state, params, tags, meta, *rest) = row
    values: list[Any] = [
        key,
        job_id,
        manifest,
        model,
        State(state),
        json.loads(params),
        tuple(json.loads(tags)),
        json.loads(meta),
        *rest,
        tuple(files),
    ]
    return Listed(*values)


def recorded_file(row: tuple[Any, ...]) -> Recorded:
    """A Recorded from a row of RECORDED_FILES."""
    (key, job_id, manifest, model, state, *rest) = row
    return Recorded(key, job_id, manifest, model, State(state), *rest)


def compact(value: Any) -> str:
    """JSON in one canonical form, so that equal requests are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
