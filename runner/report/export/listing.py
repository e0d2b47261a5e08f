"""The formats that list files, one row each: `imagefolder`, which has them beside it, and `jsonl`."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio.to_thread

from runner.media import digest
from runner.report.export.columns import Survey, columns_of
from runner.report.export.destination import PART_SUFFIX, Destination
from runner.report.export.lines import write_rows
from runner.report.export.rows import Item
from runner.report.export.source import Broken, Outcome, Wanted, text_of, whole_path

BATCH = 64

Take = Callable[[str, Item], None]
"""Makes the file of an item in a split part of the export. Raises Broken."""
Finish = Callable[[str, Item, dict[str, Any]], dict[str, Any]]


async def export_imagefolder(
    wanted: Wanted, destination: Destination, media: Collection[str]
) -> Outcome:
    """`train/` (and `test/`) with the files and their metadata.jsonl."""
    folder = destination.folder

    def place(split: str, item: Item) -> None:
        _place(wanted.output, item, folder / split / _file_name(item))

    def with_name(split: str, item: Item, row: dict[str, Any]) -> dict[str, Any]:
        return {"file_name": _file_name(item), **row}

    def path(split: str) -> Path:
        return folder / split / "metadata.jsonl"

    return await _export(wanted, media, place, with_name, path)


async def export_jsonl(
    wanted: Wanted, destination: Destination, media: Collection[str], *, with_texts: bool
) -> Outcome:
    """`train.jsonl` (and `test.jsonl`) with the paths of the files where they were saved.

    `with_texts`: what is a text stands in the row as well, as `output`.
    """
    output = wanted.output.resolve()

    def verify(split: str, item: Item) -> None:
        whole_path(output, item)

    def with_path(split: str, item: Item, row: dict[str, Any]) -> dict[str, Any]:
        found = {"path": str(output / item.path), **row}
        found["content_type"] = item.file.content_type
        if with_texts:
            is_text = item.medium == "text"
            found["output"] = text_of((output / item.path).read_bytes()) if is_text else ""
        return found

    def path(split: str) -> Path:
        return destination.folder / f"{split}.jsonl"

    return await _export(wanted, media, verify, with_path, path)


async def _export(
    wanted: Wanted,
    media: Collection[str],
    take: Take,
    finish: Finish,
    path_of: Callable[[str], Path],
) -> Outcome:
    """Takes all files, then writes the rows of those that are whole."""
    outcome = Outcome()
    broken: set[tuple[int, int]] = set()
    surveys = {split: Survey() for split in wanted.splits}
    for split, survey in surveys.items():
        async for batch in _batches(wanted.items(media, split)):
            reasons = await anyio.to_thread.run_sync(_take_all, take, split, batch)
            for item in batch:
                if item.place in reasons:
                    broken.add(item.place)
                    outcome.broken.append(reasons[item.place])
                    continue
                survey.add(item)
                outcome.exported[split] += 1
                outcome.size_bytes += item.size_bytes
    columns = columns_of(surveys.values())
    for split, survey in surveys.items():

        async def whole(split: str = split) -> AsyncIterator[Item]:
            async for item in wanted.items(media, split):
                if item.place not in broken:
                    yield item

        def finished(item: Item, row: dict[str, Any], split: str = split) -> dict[str, Any]:
            return finish(split, item, row)

        path = path_of(split)
        if survey.items:
            await write_rows(path, whole, survey, columns, finished)
        else:
            path.unlink(missing_ok=True)
    return outcome


def _take_all(take: Take, split: str, items: list[Item]) -> dict[tuple[int, int], str]:
    reasons = {}
    for item in items:
        try:
            take(split, item)
        except Broken as error:
            reasons[item.place] = str(error)
    return reasons


async def _batches(items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
    batch: list[Item] = []
    async for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _file_name(item: Item) -> str:
    return f"{item.key}.{item.extension}"


def _place(output: Path, item: Item, target: Path) -> None:
    """The verified file at `target`: another name of the same file where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = whole_path(output, item)
    if target.exists() and (target.samefile(source) or digest(target) == item.file.sha256):
        return
    part = target.with_name(target.name + PART_SUFFIX)
    part.unlink(missing_ok=True)
    try:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        # Not forced to disk one by one: after a power cut the next export looks at each anyway.
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink()
