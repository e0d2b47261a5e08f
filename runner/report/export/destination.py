"""The folder that an export goes to: whose it is, and which of its shards are finished."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.media import put_in_place, write_whole

MARK = ".runner-export.json"
PART_SUFFIX = ".part"


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished file of many items: its name, what is in it, how many items and bytes that is."""

    name: str
    digest: str
    items: int
    size_bytes: int


@dataclass(slots=True)
class Destination:
    """A folder that holds one export and nothing else; made by `open_destination`."""

    folder: Path
    made_with: dict[str, Any]
    shards: dict[str, Shard] = field(default_factory=dict)

    def has(self, name: str, digest: str) -> Shard | None:
        """The finished shard of that name if it holds just this, and is still there."""
        shard = self.shards.get(name)
        if shard is None or shard.digest != digest:
            return None
        with suppress(OSError):
            if (self.folder / name).stat().st_size == shard.size_bytes:
                return shard
        return None

    def part(self, name: str) -> Path:
        """Where a file is written before it gets its name."""
        return self.folder / (name + PART_SUFFIX)

    def finish(self, shard: Shard | None, name: str) -> None:
        """Gives a written shard its name; None: it came out empty, or with items that may yet come."""
        put_in_place(self.part(name), self.folder / name)
        self.shards.pop(name, None)
        if shard is not None:
            self.shards[name] = shard
        self.write_mark()

    def keep_only(self, names: set[str], suffix: str) -> None:
        """Removes shards of an earlier, longer export, and what was half written."""
        for path in self.folder.iterdir():
            is_stale = path.name.endswith(suffix) and path.name not in names
            if is_stale or path.name.endswith(suffix + PART_SUFFIX):
                path.unlink()
        self.shards = {name: shard for name, shard in self.shards.items() if name in names}
        self.write_mark()

    def write_mark(self) -> None:
        """Writes down whose folder this is and what is finished in it."""
        shards = {s.name: [s.digest, s.items, s.size_bytes] for s in self.shards.values()}
        text = json.dumps({"made_with": self.made_with, "shards": shards}, indent=1)
        part = self.part(MARK)
        write_whole(part, text.encode())
        put_in_place(part, self.folder / MARK)


def open_destination(folder: Path, output: Path, made_with: dict[str, Any]) -> Destination:
    """The folder to export to, new or from an earlier export made with the same options.

    Raises UsageError for one that holds anything else.
    """
    here, there = folder.resolve(), output.resolve()
    if here == there or there in here.parents:
        raise UsageError(f"{folder} is in the output folder {output}; export to a folder beside it")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder to export to")
    mark = folder / MARK
    if not mark.exists():
        if folder.exists() and any(path.name != MARK + PART_SUFFIX for path in folder.iterdir()):
            raise UsageError(f"{folder} holds files that are no export; name a new folder")
        destination = Destination(folder, made_with)
        destination.write_mark()
        return destination
    known = _read(mark)
    before = known["made_with"]
    if before != made_with:
        told = ", ".join(
            f"{name}: {_shown(before.get(name))} there, {_shown(value)} now"
            for name, value in made_with.items()
            if before.get(name) != value
        )
        raise UsageError(f"{folder} holds an export made otherwise ({told}); name a new folder")
    shards = {name: Shard(name, *values) for name, values in known["shards"].items()}
    return Destination(folder, made_with, shards)


def free_bytes(folder: Path) -> int:
    """What the folder's disk has left."""
    return shutil.disk_usage(folder).free


def _read(mark: Path) -> Any:
    try:
        known = json.loads(mark.read_text("utf-8"))
        if isinstance(known["made_with"], dict) and isinstance(known["shards"], dict):
            return known
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{mark} cannot be read; name a new folder")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)
