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
from runner.ledger.inputs import Looked, Stamp, are_unchanged, inputs_of, looked, remember_looks
from runner.manifest.inputs import Content, check_size, look

# What was written so short a time ago may be written again without its time showing it.
UNSURE_S = 2.0


class Looks:
    """What files hold, from the ledger where it is known. Called in a worker thread of the run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._new: list[Looked] = []

    def __call__(self, path: Path) -> Content:
        """What a file holds; UnusableInput if it cannot be sent."""
        check_size(path)
        stamp = _stamp(path)
        if stamp is not None and (known := anyio.from_thread.run(looked, self._ledger, stamp)):
            return Content(*known)
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
    return Stamp(str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino)
