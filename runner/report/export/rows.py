"""What a dataset knows of one saved file, before its columns have types and final names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from runner.job import SavedFile, State
from runner.ledger import Ledger, Listed
from runner.ledger.reading import Selection, listed

Field = tuple[str, str]
"""Where a value comes from (`""` the job itself, `param`, `meta`) and its name there."""
Fields = Mapping[str, Mapping[str, Any]]
"""The values of an item: by where they come from, then by name."""

# What Pillow, and with it `datasets`, opens as a picture.
_PICTURES = frozenset({"png", "jpeg", "webp", "gif", "tiff", "bmp", "avif"})
_TEXTS = frozenset({"text/plain", "application/json"})
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NO_KEY_CHARACTER = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Item:
    """One saved file of a job."""

    job: Listed
    file: SavedFile

    @property
    def place(self) -> tuple[int, int]:
        """What tells the item from all others of its ledger."""
        return self.job.key, self.file.n

    @property
    def path(self) -> str:
        """Relative to the output directory."""
        return str(self.file.path)

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes or 0

    @property
    def medium(self) -> str:
        """`image`, `video`, `audio`, `text`, or `other` for what no loader knows."""
        content_type = self.file.content_type or ""
        kind, _, form = content_type.partition("/")
        if kind == "image":
            return kind if form in _PICTURES else "other"
        if content_type in _TEXTS:
            return "text"
        return kind if kind in ("video", "audio") else "other"

    @property
    def key(self) -> str:
        """A name without dots that is the same in every export, and no other item of the manifest has."""
        name = self.job.id
        if not _PLAIN_ID.fullmatch(name):
            mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:12]
            # The plus keeps it apart from an id that looks like it.
            name = f"{_NO_KEY_CHARACTER.sub('_', name)[:60]}+{mark}"
        return f"{name}+{self.file.n}" if self.file.n else name

    @property
    def extension(self) -> str:
        """The saved file's own, without its dot."""
        return PurePosixPath(self.path).suffix[1:].lower() or "bin"

    def fields(self) -> Fields:
        """Everything that is known of it, by where it comes from."""
        job, params = self.job, self.job.params
        own = {
            "id": job.id,
            "prompt": params.get("prompt"),
            "manifest": job.manifest,
            "model": job.model,
            "index": job.index,
            "repeat": job.repeat,
            "seed": params.get("seed"),
            "tags": list(job.tags) or None,
            "cost": job.cost,
            "request_id": job.request_id,
            "sha256": self.file.sha256,
        }
        return {"": own, "param": params, "meta": job.meta}


async def saved_items(ledger: Ledger, manifests: tuple[str, ...]) -> AsyncIterator[Item]:
    """Every saved file of the manifests' jobs, in the ledger's order."""
    async for job in listed(ledger, Selection(manifests, (State.SAVED,))):
        for file in job.files:
            yield Item(job, file)
