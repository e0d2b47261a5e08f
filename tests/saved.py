"""Ledgers whose jobs are saved, with real files, made without a run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ledgers import NOW, get, job
from PIL import Image

from runner.job import Job, SavedFile
from runner.ledger import Event, Ledger, Planning, Source

Contents = Sequence[tuple[str, str, bytes]]
"""Name, content type and bytes of each file of a job."""


def picture(seed: object, kind: str = "PNG", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    noise = Random(str(seed)).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(buffer, kind)
    return buffer.getvalue()


def png(number: int) -> Contents:
    return [(f"m/j{number}.png", "image/png", picture(number))]


async def adopt(ledger: Ledger, output: Path, jobs: Iterable[Job], version: str = "1") -> None:
    """Makes the jobs the ledger's, saved under `output`, which is absolute."""
    planning, jobs = Planning(ledger), list(jobs)
    await planning.begin()
    await planning.stage(jobs)
    await planning.check(output)
    names = dict.fromkeys(each.manifest for each in jobs)
    sources = [Source(name, Path(f"/{name}.yaml"), version, output) for name in names]
    await planning.adopt(sources, NOW)
    await planning.end()


async def save(
    ledger: Ledger, output: Path, job_id: str, contents: Contents, cost: float | None = 0.04
) -> None:
    """Leads a pending job to saved."""
    event, files = Event(NOW), []
    for n, (name, content_type, data) in enumerate(contents):
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        files.append(SavedFile(n, "https://x/y", name, len(data), sha256, content_type))
    await ledger.begin_submit(await get(ledger, job_id), NOW, NOW + 3600)
    await ledger.accept(await get(ledger, job_id), f"r-{job_id}", event)
    await ledger.complete(await get(ledger, job_id), "{}", event, cost)
    assert await ledger.save(await get(ledger, job_id), files, event)


async def fill(ledger: Ledger, output: Path, count: int, **changes: Any) -> list[Job]:
    """A manifest `m` of so many saved pictures."""
    jobs = [job(number, **changes) for number in range(count)]
    await adopt(ledger, output, jobs)
    for number, each in enumerate(jobs):
        await save(ledger, output, each.id, png(number))
    return jobs
