"""Keeps `metadata.jsonl` in the output directory, so that `datasets` loads it as it is.

`load_dataset("imagefolder", data_dir="output")` takes the rows of that file, each with the `file_name` of
its picture; whatever else lies in the folder is none of the dataset's.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread

from runner.ledger import Ledger
from runner.ledger.reading import output_state
from runner.report.export.columns import Survey, columns_of
from runner.report.export.lines import write_rows
from runner.report.export.rows import Item, saved_items

FILE_NAME = "metadata.jsonl"
# One folder is loaded as one kind of thing: pictures where there are any.
LOADERS = {"image": "imagefolder", "video": "videofolder", "audio": "audiofolder"}
_OWN_KEYS = frozenset({"file_name", "id", "manifest", "sha256"})
# `datasets` takes a folder or file with such a word in its name for a part of the whole.
_SPLIT = re.compile(
    r"(?:^|[-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?:$|[-._ 0-9])"
)


class ForeignMetadata(Exception):
    """The output directory has a metadata.jsonl that somebody else wrote; the text says so."""


async def keep_metadata(ledger: Ledger, output: Path) -> str | None:
    """Writes the file anew if anything changed since; returns a note worth reading, if there is one.

    Raises OSError when it cannot be written, ForeignMetadata when it is not ours to write.
    """
    directory = str(await anyio.to_thread.run_sync(output.resolve))
    path, fact = output / FILE_NAME, f"metadata of {directory}"
    state = await output_state(ledger, directory)
    if await ledger.fact(fact) == f"{state.version} {_stamp(path)}":
        return None
    if not _is_ours(path):
        raise ForeignMetadata(f"{path} was not written by runner; it is left as it is")
    surveys = {medium: Survey() for medium in LOADERS}
    split_path = None
    async for item in saved_items(ledger, state.manifests):
        if item.medium in surveys:
            surveys[item.medium].add(item)
            if split_path is None and any(map(_SPLIT.search, item.path.split("/"))):
                split_path = item.path
    medium = next((medium for medium, survey in surveys.items() if survey.items), None)
    if medium is None:
        path.unlink(missing_ok=True)
    else:
        await _write(ledger, path, state.manifests, medium, surveys[medium])
    await ledger.remember(fact, f"{state.version} {_stamp(path)}")
    if split_path is None or medium is None:
        return None
    return (
        f"`datasets` takes {split_path} for a split of its own because of its name; load all with "
        f'load_dataset("{LOADERS[medium]}", data_files="{path}")'
    )


async def _write(
    ledger: Ledger, path: Path, manifests: tuple[str, ...], medium: str, survey: Survey
) -> None:
    async def items() -> AsyncIterator[Item]:
        async for item in saved_items(ledger, manifests):
            if item.medium == medium:
                yield item

    def with_name(item: Item, row: dict[str, Any]) -> dict[str, Any]:
        return {"file_name": item.path, **row}

    await write_rows(path, items, survey, columns_of([survey]), with_name)


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "none"
    return f"{found.st_size} {found.st_mtime_ns}"


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            row = json.loads(file.readline())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return isinstance(row, dict) and row.keys() >= _OWN_KEYS
