"""The saved files that an export takes: which, for which split, and whether they are still whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runner.job import State
from runner.ledger import Ledger, Listed
from runner.ledger.reading import Selection, listed
from runner.media import digest
from runner.report.export.columns import Survey
from runner.report.export.rows import Item

TRAIN, TEST = "train", "test"
MEDIA = ("image", "video", "audio", "text")
"""A format that holds one kind of thing takes the first of these that a manifest has."""


class Broken(Exception):
    """A saved file is not what the ledger says any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be exported of a ledger: a manifest, jobs with one of these tags, and how to split."""

    ledger: Ledger
    output: Path
    manifest: str
    tags: frozenset[str] = frozenset()
    test_share: float = 0.0

    @property
    def splits(self) -> tuple[str, ...]:
        return (TRAIN, TEST) if self.test_share else (TRAIN,)

    def split_of(self, job: Listed) -> str:
        """The same in every export; all pictures of one prompt are on one side."""
        text = str(job.params.get("prompt") or job.id)
        number = int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8])
        return TEST if number < self.test_share * 2**64 else TRAIN

    async def jobs(self, *states: State) -> AsyncIterator[Listed]:
        """The wanted jobs in these states (all when none is named), in the ledger's order."""
        async for job in listed(self.ledger, Selection((self.manifest,), states)):
            if not self.tags or self.tags & set(job.tags):
                yield job

    async def items(self, media: Iterable[str], split: str | None = None) -> AsyncIterator[Item]:
        """The saved files of these media, all or those of one split."""
        media = frozenset(media)
        async for job in self.jobs(State.SAVED):
            if split in (None, self.split_of(job)):
                for file in job.files:
                    item = Item(job, file)
                    if item.medium in media:
                        yield item


@dataclass(slots=True)
class Inspection:
    """What a first look at the wanted jobs found."""

    unsaved: Counter[State] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    # What the columns hold, by medium.
    surveys: dict[str, Survey] = field(default_factory=dict)

    @property
    def main_medium(self) -> str | None:
        """The medium of a format that holds one kind of thing."""
        return next((medium for medium in MEDIA if self.media[medium]), None)


async def inspect(wanted: Wanted) -> Inspection:
    """Looks at all wanted jobs once, without touching their files."""
    found = Inspection()
    async for job in wanted.jobs():
        if job.state is not State.SAVED:
            found.unsaved[job.state] += 1
            continue
        for file in job.files:
            item = Item(job, file)
            found.media[item.medium] += 1
            found.surveys.setdefault(item.medium, Survey()).add(item)
    return found


@dataclass(slots=True)
class Outcome:
    """What an export did."""

    exported: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    # Items that were exported by an earlier, unfinished or older, export.
    kept: int = 0
    broken: list[str] = field(default_factory=list)


def whole_path(output: Path, item: Item) -> Path:
    """The item's file, verified. Raises Broken when it is gone or has other bytes."""
    path = output / item.path
    with _reading(item):
        if digest(path) == item.file.sha256:
            return path
    raise Broken(f"{item.path} has other bytes than were saved")


def whole_bytes(output: Path, item: Item) -> bytes:
    """The bytes of the item's file, verified. Raises Broken when it is gone or has other bytes."""
    with _reading(item):
        data = (output / item.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != item.file.sha256:
        raise Broken(f"{item.path} has other bytes than were saved")
    return data


@contextmanager
def _reading(item: Item) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Broken(f"{item.path} is gone") from None
    except OSError as error:
        raise Broken(f"{item.path} cannot be read ({error.strerror or error})") from error


def text_of(data: bytes) -> str:
    """A text output as a column takes it."""
    return data.decode("utf-8", errors="replace")
