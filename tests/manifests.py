"""Writes manifests into a folder of their own and reads them back, for the tests of reading."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.job import Job
from runner.manifest import load


def write(folder: Path, text: str, files: dict[str, str | bytes] | None = None) -> Path:
    """The path of a manifest `animals.yaml` in `folder`, beside files of these contents."""
    for name, content in {"animals.yaml": text, **(files or {})}.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    return folder / "animals.yaml"


def jobs_of(text: str, files: dict[str, str | bytes] | None = None) -> list[Job]:
    """Every job of a manifest with this text."""
    with tempfile.TemporaryDirectory() as folder:
        return list(load(write(Path(folder), text, files)).jobs())


def faults_of(text: str, files: dict[str, str | bytes] | None = None) -> list[str]:
    """What is wrong with a manifest, a line each, with paths relative to its folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), text, files)
        with pytest.raises(InputError) as caught:
            list(load(path).jobs())
        return str(caught.value).replace(f"{folder}{os.sep}", "").splitlines()


def prompts_of(jobs: list[Job]) -> list[str]:
    """The prompts of jobs, in their order."""
    return [job.params["prompt"] for job in jobs]
