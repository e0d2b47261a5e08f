"""Whether what is recorded as saved is really on disk, and what to do where it is not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.disk import on_disk
from runner.governor import Governor
from runner.job import State
from runner.ledger import Ledger, Recorded

PAGE = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """A job whose files are not where its state says: `after` is the state that is true."""

    job: Recorded
    after: State


class Inventory:
    """Looks for the recorded files at the start of a run."""

    def __init__(self, ledger: Ledger, governor: Governor, output: Path) -> None:
        self._ledger = ledger
        self._governor = governor
        self._output = output

    async def take(self, manifests: Sequence[int]) -> AsyncIterator[Found]:
        """Reopens saved jobs whose files are gone, and takes back expired ones whose files are there."""
        for manifest in manifests:
            after = (0, -1)
            while page := await self._ledger.recorded_files(manifest, after, PAGE):
                missing = await on_disk(self._missing, page)
                async for found in self._settle(page, missing):
                    yield found
                after = (page[-1].key, page[-1].n)

    async def _settle(self, page: list[Recorded], missing: set[int]) -> AsyncIterator[Found]:
        seen: set[int] = set()
        for file in page:
            # Nearly all of them are as they should be.
            if (file.key in missing) is (file.state is State.EXPIRED) or file.key in seen:
                continue
            seen.add(file.key)
            gone = file.key in missing
            if gone and file.state is State.SAVED:
                why = f"{file.path} is gone or has another size; fetched again"
                if await self._ledger.reopen(file.key, self._governor.now(), why):
                    yield Found(file, State.COMPLETED)
            back = not gone and file.state is State.EXPIRED
            if back and await self._ledger.come_back(file.key, self._governor.now()):
                yield Found(file, State.SAVED)

    def _missing(self, page: list[Recorded]) -> set[int]:
        missing: set[int] = set()
        # There may be a million of them, and a Path costs more than the look at the disk.
        folder = str(self._output)
        for file in page:
            try:
                path = os.path.join(folder, file.path)  # noqa: PTH118
                whole = os.stat(path).st_size == file.size_bytes  # noqa: PTH116
            except OSError:
                whole = False
            if not whole:
                missing.add(file.key)
        return missing
