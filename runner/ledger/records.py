"""What the ledger gives out: values, complete in themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from runner.job import SavedFile, State
from runner.references import filled


@dataclass(frozen=True, slots=True)
class Record:
    """A job as a step works on it. `key` is the ledger's own; times are epoch seconds.

    `inputs`: where the files are that stand in `params` as `{"sha256": …}`, by their sha256.
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
    inputs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def accepted(self, request_id: str, submitted_at: float, deadline: float) -> Record:
        """The job as it is once the API has taken it."""
        return replace(
            self,
            state=State.SUBMITTED,
            request_id=request_id,
            submitted_at=submitted_at,
            deadline=deadline,
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A job as a listing shows it; a file in `params` is `{"file": …, "sha256": …}`."""

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


class Recorded(NamedTuple):
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
    (key, job_id, manifest, model, params, output, state, *rest, inputs, manifest_path) = row
    places = _places(inputs, Path(manifest_path).parent)
    known = [key, job_id, manifest, model, json.loads(params), output, State(state), *rest, places]
    return Record(*known)


def _places(inputs: str, folder: Path) -> dict[str, tuple[Path, ...]]:
    """Where the files of a job are, by their sha256; copies of one file beside each other."""
    places: dict[str, tuple[Path, ...]] = {}
    for file, sha256 in json.loads(inputs).items():
        places[sha256] = (*places.get(sha256, ()), folder / file)
    return places


def listed_record(row: tuple[Any, ...], files: list[SavedFile]) -> Listed:
    """A Listed from a row of LIST_JOBS and its files."""
    (key, job_id, manifest, model, state, params, tags, meta, *rest, inputs) = row
    named: dict[str, Any] = {}
    for file, sha256 in json.loads(inputs).items():
        named.setdefault(sha256, {"file": file, "sha256": sha256})
    values: list[Any] = [
        key,
        job_id,
        manifest,
        model,
        State(state),
        filled(json.loads(params), named),
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
