"""Brings results to disk: fetched without the key, checked, and only then under their final name."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from runner.crash_points import reach
from runner.disk import on_disk
from runner.events import Noted, Observer
from runner.fetcher import Fetcher, FetchFailed
from runner.governor import Governor
from runner.inline import url_of, written
from runner.job import Consequence, SavedFile, State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.media import Checked, UnusableMedium, check, put_in_place
from runner.policy.names import file_name, likely_name, part_name, with_suffix
from runner.policy.outputs import Output, outputs_of
from runner.provenance import NotEmbeddable, can_hold, write_with_packet, xmp_packet

MEDIA_RETENTION_S = 7 * 86400.0
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# The file as it was checked, and its name where it could be given at once.
Arrived = Callable[[Checked], tuple[Checked, str | None]]


@dataclass(slots=True)
class _Work:
    """The download of one job: what it has so far, kept from one try to the next."""

    record: Record
    files: dict[int, SavedFile] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    # Temporary files that this run has written; any others are left from one that was killed.
    begun: set[Path] = field(default_factory=set)


class Downloader:
    """Owns `completed`."""

    def __init__(
        self,
        ledger: Ledger,
        fetcher: Fetcher,
        governor: Governor,
        output: Path,
        observer: Observer = lambda _: None,
        *,
        embed: bool = False,
    ) -> None:
        self._embed = embed
        self._ledger = ledger
        self._fetcher = fetcher
        self._governor = governor
        self._output = output
        self._observer = observer
        # Jobs that are being saved, or are to be tried again in this run.
        self._works: dict[int, _Work] = {}
        # Names that were chosen and which file of a job is to have them; the ledger knows the rest.
        self._claimed: dict[str, tuple[int, int]] = {}
        self._flagged: set[str] = set()
        self._began_at = governor.now()

    async def save(self, key: int, last: bool = False) -> tuple[Record | None, StepResult]:
        """Fetches, checks and names all files of one job, then marks it saved.

        What did not come whole is kept for the next try, unless this is the `last` one of the run.
        """
        found = await self._ledger.completed(key)
        if found is None:
            await self._let_go(key)
            return None, StepResult(None)
        record, body, files = found
        work = self._works.setdefault(key, _Work(record))
        work.record = record
        result: StepResult | None = None
        try:
            result = await self._try(work, body, files)
        finally:
            again = result and result.state is State.COMPLETED
            if result is None or last or not again or result.consequence is not Consequence.NONE:
                with anyio.CancelScope(shield=True):
                    await self._let_go(key)
        return record, result

    async def _try(self, work: _Work, body: str, recorded: list[SavedFile]) -> StepResult:
        try:
            return await self._save(work, outputs_of(json.loads(body)), recorded)
        except FetchFailed as failure:
            return await self._failed(work.record, failure)
        except UnusableMedium as failure:
            return await self._failed(work.record, FetchFailed(str(failure)))
        except (ValueError, RecursionError) as error:
            # Whatever a server may say that somebody's parser stumbles over is this job's own trouble.
            return await self._failed(work.record, FetchFailed(f"it cannot be read: {error}"))
        except OSError as error:
            return await self._disk_trouble(work.record, error)

    async def _let_go(self, key: int) -> None:
        """Nothing of the job is kept any more but what is saved."""
        work = self._works.pop(key, None)
        if work is None:
            return
        for path in work.targets:
            del self._claimed[path]
        if work.begun:
            await on_disk(_remove, work.begun)

    async def _save(
        self, work: _Work, outputs: list[Output], recorded: list[SavedFile]
    ) -> StepResult:
        record = work.record
        if not outputs:
            return await self._nothing(record)
        if record.submitted_at is None or record.submitted_at <= self._began_at:
            await self._tidy(work, len(outputs))
        known = {file.n: file for file in recorded} | work.files
        for n, output in enumerate(outputs):
            work.files[n] = await self._one(work, n, output, known.get(n))
        files = [work.files[n] for n in range(len(outputs))]
        event = Event(self._governor.now(), detail=", ".join(str(f.path) for f in files))
        if saved := await self._ledger.save(record, files, event):
            reach("saved-committed")
            if saved.is_flagged:
                await self._flag(record, files)
        return StepResult(State.SAVED)

    async def _tidy(self, work: _Work, count: int) -> None:
        """Removes what a run that was killed left of these files: nobody knows what it is of."""
        names = (part_name(work.record.output, n, work.record.key) for n in range(count))
        await on_disk(_remove, {self._output / name for name in names} - work.begun)

    async def _one(self, work: _Work, n: int, output: Output, known: SavedFile | None) -> SavedFile:
        """One file of the job; one that is there already, whole, is not fetched again."""
        if known is not None and await self._is_there(known, output):
            return known
        record = work.record
        part = self._output / part_name(record.output, n, record.key)
        # Whatever ends this try, the file is remembered until it is known to be gone.
        work.begun.add(part)
        # Asked for beforehand, so that the thread that writes the file gives it its name as well.
        likely = likely_name(record.output, n, output)
        likely = likely if likely and await self._may_have(work, n, likely) else None

        def arrived(checked: Checked) -> tuple[Checked, str | None]:
            named = file_name(record.output, n, checked.kind.extension) == likely
            if likely and named and not self._embeds(checked):
                return checked, likely if self._put(part, likely, checked, known) else None
            return checked, None

        try:
            checked, path = await self._bring(output, part, arrived)
            if path is None:
                if self._embeds(checked):
                    checked = await self._embedded(record, part, checked)
                path = await self._place(work, n, part, checked, known)
        except Exception as error:
            # The rest of a file may come; of one that is whole but wrong there is nothing to keep.
            if not (isinstance(error, FetchFailed) and error.can_go_on):
                await on_disk(_remove, [part])
                work.begun.discard(part)
            raise
        work.begun.discard(part)
        reach("file-renamed")
        return SavedFile(
            n,
            url_of(output),
            path,
            checked.size_bytes,
            checked.sha256,
            checked.kind.content_type,
            checked.received_sha256,
        )

    async def _bring(
        self, output: Output, part: Path, arrived: Arrived
    ) -> tuple[Checked, str | None]:
        """The output's bytes on disk under a temporary name, checked; then what `arrived` makes of it."""
        if url := url_of(output):
            return await self._fetcher.fetch(
                url, part, lambda declared, data: arrived(check(part, declared, url, data))
            )
        return await on_disk(lambda: arrived(written(output, part)))

    def _embeds(self, checked: Checked) -> bool:
        return self._embed and can_hold(checked.kind.content_type)

    async def _embedded(self, record: Record, part: Path, checked: Checked) -> Checked:
        """The file with its provenance in it; as it came where that cannot be, which is said once."""
        packet = xmp_packet(record.model, record.params, record.request_id)
        try:
            return await on_disk(_embed, part, checked, packet)
        except (NotEmbeddable, UnusableMedium) as objection:
            words = f"provenance is not embedded in such files as job {record.id}'s: {objection}"
            if str(objection) not in self._flagged:
                self._flagged.add(str(objection))
                self._observer(Noted(words))
            return checked

    async def _may_have(self, work: _Work, n: int, path: str) -> bool:
        """Claims a name for a file of a job, unless it is another one's."""
        # Claimed before anything is awaited: another job may be looking for a name as well.
        own = (work.record.key, n)
        if self._claimed.setdefault(path, own) != own:
            return False
        work.targets.add(path)
        return not await self._ledger.path_is_taken(path, work.record.key)

    async def _place(
        self, work: _Work, n: int, part: Path, checked: Checked, known: SavedFile | None
    ) -> str:
        """Gives the file a final name that no other job's file and no foreign file has."""
        name = file_name(work.record.output, n, checked.kind.extension)
        for path in (name, with_suffix(name, work.record.id)):
            if await self._may_have(work, n, path) and await on_disk(
                self._put, part, path, checked, known
            ):
                return path
        raise FetchFailed(f"{name} is taken by another file; move that away and run again")

    def _put(self, part: Path, path: str, checked: Checked, known: SavedFile | None) -> bool:
        reach("file-checked")
        own = known is not None and known.path == path
        # The same bytes under the wanted name are this job's own, from a run that died right there.
        return put_in_place(part, self._output / path, None if own else checked.sha256)

    async def _is_there(self, file: SavedFile, output: Output) -> bool:
        """Whether a file is on disk, whole, and of this very result, which its address alone tells."""
        if file.path is None or file.url is None or file.url != url_of(output):
            return False
        path = self._output / file.path

        def there() -> bool:
            return path.is_file() and path.stat().st_size == file.size_bytes

        return await on_disk(there)

    async def _nothing(self, record: Record) -> StepResult:
        reason = "the API reports it as completed, but the result holds no output"
        await self._ledger.end(record, State.FAILED, Event(self._governor.now(), detail=reason))
        return StepResult(State.FAILED, reason=reason)

    async def _failed(self, record: Record, failure: FetchFailed) -> StepResult:
        now = self._governor.now()
        reason = str(failure)
        event = Event(now, failure.status, reason)
        if failure.gone and self._age_s(record, now) > MEDIA_RETENTION_S:
            await self._ledger.end(record, State.EXPIRED, event)
            return StepResult(State.EXPIRED, reason=reason)
        await self._ledger.explain(record, event)
        return StepResult(State.COMPLETED, now, reason=reason)

    def _age_s(self, record: Record, now: float) -> float:
        """How long ago a job was sent: by the server's clock where that is known."""
        server_now = self._governor.server.earliest(now)
        if server_now is not None and record.server_at is not None:
            return server_now - record.server_at
        return now - (record.submitted_at or now)

    async def _flag(self, record: Record, files: list[SavedFile]) -> None:
        """Says once of each file that several prompts gave it: servers send placeholders with a 200."""
        paths = {file.received_sha256 or file.sha256: file.path for file in files}
        for sha256, prompts in await self._ledger.same_files(record.key):
            if sha256 not in self._flagged:
                self._flagged.add(sha256)
                words = f"{prompts} different prompts gave the same file {paths[sha256]}: a placeholder?"
                self._observer(Noted(words, warning=True))

    async def _disk_trouble(self, record: Record, error: OSError) -> StepResult:
        words = error.strerror or str(error)
        reason, what = f"cannot write to {self._output}: {words}", Consequence.NONE
        if error.errno in DISK_FULL:
            reason = f"the disk of {self._output} is full ({words})"
            reason, what = f"{reason}; make room and run again, nothing is lost", Consequence.PAUSE
        elif error.errno in DISK_CLOSED:
            reason, what = f"{reason}; make it writable and run again", Consequence.PAUSE
        await self._ledger.explain(record, Event(self._governor.now(), detail=reason))
        return StepResult(State.COMPLETED, self._governor.now(), what, reason)


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        with suppress(OSError):
            part.unlink()


def _embed(part: Path, checked: Checked, packet: bytes) -> Checked:
    # Made beside it and checked in its turn: what was paid for is replaced by nothing worse.
    copy = part.with_name(f"{part.name}.embed")
    try:
        write_with_packet(part, copy, checked.kind.content_type, packet)
        embedded = replace(check(copy, None), received_sha256=checked.sha256)
        copy.replace(part)
        return embedded
    finally:
        _remove([copy])
