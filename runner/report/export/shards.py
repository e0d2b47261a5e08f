"""The formats that pack many items into one file: cut by size, finished one by one, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from runner.report.export.columns import Columns
from runner.report.export.destination import Destination, Shard
from runner.report.export.rows import Item
from runner.report.export.source import Outcome, Wanted

MOST_ITEMS = 100_000


@dataclass(slots=True)
class Written:
    """What became of the items of one shard."""

    items: int = 0
    broken: list[str] = field(default_factory=list)


Write = Callable[[Path, Sequence[Item]], Written]
"""Writes a shard to a path, verifying each item."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How items are packed: by what, into files with which suffix and of which size."""

    write: Write
    suffix: str
    columns: Columns
    shard_bytes: int


async def export_shards(
    wanted: Wanted, destination: Destination, media: Collection[str], packing: Packing
) -> Outcome:
    """Writes the shards that are not there yet; what is finished is not even read again."""
    outcome, names = Outcome(), set[str]()
    for split in wanted.splits:
        number = 0
        async for items in _cut(wanted.items(media, split), packing.shard_bytes):
            name = f"{split}-{number:05}{packing.suffix}"
            digest = _digest(items, packing.columns)
            shard = destination.has(name, digest)
            if shard is None:
                shard = await anyio.to_thread.run_sync(
                    _write, destination, packing.write, name, digest, items, outcome
                )
            else:
                outcome.kept += shard.items
            number += 1
            if shard is not None:
                names.add(name)
                outcome.exported[split] += shard.items
                outcome.size_bytes += shard.size_bytes
    destination.keep_only(names, packing.suffix)
    return outcome


def _write(
    destination: Destination,
    write: Write,
    name: str,
    digest: str,
    items: Sequence[Item],
    outcome: Outcome,
) -> Shard | None:
    part = destination.part(name)
    try:
        written = write(part, items)
        outcome.broken += written.broken
        if not written.items:
            return None
        shard = Shard(name, digest, written.items, part.stat().st_size)
        # With a file missing it is written again next time: that may be there by then.
        destination.finish(None if written.broken else shard, name)
    finally:
        part.unlink(missing_ok=True)
    return shard


async def _cut(items: AsyncIterator[Item], shard_bytes: int) -> AsyncIterator[list[Item]]:
    shard: list[Item] = []
    size = 0
    async for item in items:
        if shard and (size + item.size_bytes > shard_bytes or len(shard) == MOST_ITEMS):
            yield shard
            shard, size = [], 0
        shard.append(item)
        size += item.size_bytes
    if shard:
        yield shard


def _digest(items: Sequence[Item], columns: Columns) -> str:
    """What tells a shard from one with other items, rows or columns."""
    found = hashlib.sha256(json.dumps([str(kind) for kind in columns.kinds.values()]).encode())
    for item in items:
        row = json.dumps([item.key, item.extension, columns.row(item.fields())])
        found.update(row.encode())
    return found.hexdigest()
