"""Looks at the files that jobs send, and only at those that may have changed since the last time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio.from_thread
import anyio.to_thread

from runner.errors import RunnerError
from runner.ledger import Ledger
from runner.ledger.inputs import Looked, Stamp, are_unchanged, inputs_of, looks_from, remember_looks
from runner.manifest.inputs import Content, check_size, look
from runner.media import real_name

# What was written so short a time ago may be written again without its time showing it.
UNSURE_S = 2.0
FEWEST_LOOKS, MOST_LOOKS = 8, 2000
BEYOND = "\U0010ffff"


class Looks:
    """What files hold, from the ledger where it is known. Called in a worker thread of the run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._new: list[Looked] = []
        self._pages = _Pages(ledger)

    def __call__(self, path: Path) -> Content:
        """What a file holds; UnusableInput if it cannot be sent."""
        check_size(path)
        stamp = _stamp(path)
        known = self._pages.find(stamp.path) if stamp is not None else None
        if known is not None and known.stamp == stamp:
            return Content(known.sha256, known.content_type)
        content = look(path)
        if stamp is not None and stamp == _stamp(path):
            self._new.append(Looked(stamp, content.sha256, content.content_type))
        return content

    async def keep(self) -> None:
        """Has the ledger remember what was seen since the last time."""
        new, self._new = self._new, []
        if new:
            # A ledger that takes nothing in, as one of another user, can be planned from all the same.
            with suppress(RunnerError):
                await remember_looks(self._ledger, new)


class _Pages:
    """What the ledger remembers, fetched ahead: most files are asked for in the order of their names."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._page: dict[str, Looked] = {}
        self._bounds: tuple[str, str] | None = None
        self._size = FEWEST_LOOKS
        self._hits = 0

    def find(self, path: str) -> Looked | None:
        """What is remembered of a path."""
        if self._bounds is None or not self._bounds[0] <= path <= self._bounds[1]:
            self._turn(path)
        found = self._page.get(path)
        self._hits += found is not None
        return found

    def _turn(self, path: str) -> None:
        # Whoever used most of a page will want the next one; whoever jumps about, only a few.
        grown = self._size * 4 if 2 * self._hits > self._size else FEWEST_LOOKS
        self._size, self._hits = min(grown, MOST_LOOKS), 0
        found = anyio.from_thread.run(looks_from, self._ledger, path, self._size)
        self._page = {each.stamp.path: each for each in found}
        last = found[-1].stamp.path if len(found) == self._size else BEYOND
        self._bounds = (path, last)


async def inputs_unchanged(ledger: Ledger, manifest: int, folder: Path) -> bool:
    """Whether the files that a manifest's jobs send are as they were when it was adopted."""
    inputs = await inputs_of(ledger, manifest)
    if not inputs:
        return True
    stamps = await anyio.to_thread.run_sync(_stamps, [folder / file for file in inputs])
    files = zip(stamps, inputs.values(), strict=True)
    return None not in stamps and await are_unchanged(
        ledger, [(stamp, sha256) for stamp, sha256 in files if stamp is not None]
    )


def _stamps(paths: Iterable[Path]) -> list[Stamp | None]:
    return [_stamp(path) for path in paths]


def _stamp(path: Path) -> Stamp | None:
    """None for what is not there, or was written just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    if abs(time.time() - found.st_mtime) < UNSURE_S:
        return None
    return Stamp(real_name(path), found.st_size, found.st_mtime_ns, found.st_ino)
