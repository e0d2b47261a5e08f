"""What a program gets to see of a job: values, complete in themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.job import SavedFile, State
from runner.ledger import Listed


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A saved file of a job; `path` is where it is on disk."""

    path: Path
    url: str | None
    size_bytes: int | None
    sha256: str | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the ledger has it: what was asked for, how it stands, what came of it.

    `cost` in US dollars; times are aware, in UTC; `index` is its place in the manifest, from 0; `key` the
    ledger's own number for it.
    """

    id: str
    manifest: str
    model: str
    state: State
    params: Mapping[str, Any]
    tags: tuple[str, ...]
    meta: Mapping[str, Any]
    files: tuple[FileInfo, ...]
    request_id: str | None
    attempts: int
    submitted_at: datetime | None
    completed_at: datetime | None
    cost: float | None
    error: str | None
    source: str
    index: int
    repeat: int
    key: int = field(repr=False)

    @property
    def saved(self) -> bool:
        """Whether every file of it is on disk and checked."""
        return self.state is State.SAVED

    @property
    def prompt(self) -> str | None:
        """The prompt, where the model takes one."""
        prompt = self.params.get("prompt")
        return prompt if isinstance(prompt, str) else None


def job_info(job: Listed, folder: Path) -> JobInfo:
    """A job as a program sees it, its files in `folder`."""
    return JobInfo(
        id=job.id,
        manifest=job.manifest,
        model=job.model,
        state=job.state,
        params=job.params,
        tags=job.tags,
        meta=job.meta,
        files=tuple(_file_info(file, folder) for file in job.files if file.path is not None),
        request_id=job.request_id,
        attempts=job.posts,
        submitted_at=_moment(job.submitted_at),
        completed_at=_moment(job.completed_at),
        cost=job.cost,
        error=job.error,
        source=job.source,
        index=job.index,
        repeat=job.repeat,
        key=job.key,
    )


def _file_info(file: SavedFile, folder: Path) -> FileInfo:
    path = folder / (file.path or "")
    return FileInfo(path, file.url, file.size_bytes, file.sha256, file.content_type)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
