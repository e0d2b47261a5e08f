"""Makes the files that a job sends ready: their addresses known to the ledger before any request has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.to_thread

from runner.api import Api
from runner.crash_points import reach
from runner.events import Answered, Call, Observer
from runner.governor import UNREACHABLE_CAP_S, Governor, Urgency
from runner.inputs.reading import (
    INLINE_SHARE,
    UPLOAD_SHARE,
    UnusableFile,
    data_url,
    real_names,
    size_of,
    upload_body,
)
from runner.inputs.room import Room
from runner.job import Answer, Consequence, Fault, State, StepResult
from runner.ledger import Ledger, Record
from runner.ledger.inputs import forget_looks, remember_upload, upload_of
from runner.policy.backoff import full_jitter
from runner.policy.uploads import uploaded_url
from runner.policy.verdict import Meaning, describe, judge_submit
from runner.references import filled

IN_MEMORY_BYTES = 100_000_000
# How long addresses live is not documented; what is asked for after this is uploaded anew, at no cost.
UPLOAD_LIFE_S = 7 * 86400.0
# A slow line is no reason to give a large file up.
SLOWEST_BYTES_PER_S = 50_000.0


@dataclass(frozen=True, slots=True)
class InputRules:
    """How files are sent. `host`: the origin of uploads; `attempts`: tries for one content.

    `objection`: why nothing may be uploaded at all, if anything speaks against it.
    """

    inline: bool
    host: str
    attempts: int
    timeout_s: float
    objection: str = ""


@dataclass(slots=True)
class _Turn:
    """The turn that a job was given: good for one request."""

    fresh: bool = True


class NotReady(Exception):
    """A file cannot be sent now; `result` is what becomes of its job."""

    def __init__(self, result: StepResult) -> None:
        super().__init__(result.reason)
        self.result = result


class Inputs:
    """Uploads each content once, however many jobs send it."""

    def __init__(
        self,
        ledger: Ledger,
        api: Api,
        governor: Governor,
        rules: InputRules,
        rng: Random,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._governor = governor
        self._rules = rules
        self._rng = rng
        self._observer = observer
        self._room = Room(IN_MEMORY_BYTES)
        self._locks: dict[str, anyio.Lock] = {}
        self._tries: Counter[str] = Counter()
        self._later: dict[str, float] = {}
        self._unreached = 0

    @asynccontextmanager
    async def ready(self, record: Record) -> AsyncIterator[Mapping[str, Any] | StepResult]:
        """The job's parameters as they are sent, or what becomes of it; it has its turn before and after."""
        if self._rules.inline:
            size_bytes = sum(map(size_of, record.inputs.values()))
            async with self._room.hold(INLINE_SHARE * size_bytes):
                yield await self._inline(record)
            return
        yield await self._uploaded(record)

    async def _inline(self, record: Record) -> Mapping[str, Any] | StepResult:
        try:
            texts = {
                sha256: await anyio.to_thread.run_sync(data_url, paths, sha256)
                for sha256, paths in record.inputs.items()
            }
        except UnusableFile as error:
            return await self._unusable(record, error)
        return _sent(record, texts)

    async def _unusable(self, record: Record, error: UnusableFile) -> StepResult:
        """The job ends; its files are looked at anew by whoever plans it next."""
        await forget_looks(self._ledger, real_names(record.inputs.values()))
        return StepResult(State.FAILED, reason=str(error))

    async def _uploaded(self, record: Record) -> Mapping[str, Any] | StepResult:
        turn, urls = _Turn(), dict[str, str]()
        try:
            for sha256 in record.inputs:
                async with self._alone_with(sha256):
                    urls[sha256] = await self._url(record, sha256, turn)
        except NotReady as not_ready:
            return not_ready.result
        if not turn.fresh:
            await self._governor.turn(Urgency.SUBMIT)
        return _sent(record, urls)

    @asynccontextmanager
    async def _alone_with(self, sha256: str) -> AsyncIterator[None]:
        """Jobs that send the same content wait for the first of them."""
        lock = self._locks.setdefault(sha256, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._locks.pop(sha256, None)

    async def _url(self, record: Record, sha256: str, turn: _Turn) -> str:
        now = self._governor.now()
        since = now - UPLOAD_LIFE_S
        url = await upload_of(self._ledger, sha256, self._rules.host, since, record.key)
        if url is not None:
            return url
        if self._rules.objection:
            raise NotReady(_pause(self._rules.objection))
        if (again_at := max(self._later.get(name, 0.0) for name in ("", sha256))) > now:
            raise NotReady(StepResult(State.PENDING, again_at))
        try:
            answer = await self._upload(record.inputs[sha256], sha256, turn)
        except UnusableFile as error:
            raise NotReady(await self._unusable(record, error)) from None
        url = uploaded_url(answer.body) if answer.status in (200, 201, 202) else None
        if url is None:
            raise NotReady(self._refused(sha256, answer))
        await remember_upload(self._ledger, url, sha256, self._rules.host, self._governor.now())
        reach("upload-remembered")
        self._unreached = 0
        self._tries.pop(sha256, None)
        self._later.pop(sha256, None)
        return url

    async def _upload(self, paths: Sequence[Path], sha256: str, turn: _Turn) -> Answer:
        size_bytes = size_of(paths)
        async with self._room.hold(UPLOAD_SHARE * size_bytes):
            body = await anyio.to_thread.run_sync(upload_body, paths, sha256)
            if not turn.fresh:
                await self._governor.turn(Urgency.SUBMIT)
            turn.fresh = False
            timeout_s = self._rules.timeout_s + size_bytes / SLOWEST_BYTES_PER_S
            answer = await self._api.upload(body, timeout_s)
        reach("file-uploaded")
        if answer.fault is not Fault.NEVER_LEFT:
            self._observer(Answered(Call.UPLOAD, answer.status, answer.seconds))
        return answer

    def _refused(self, sha256: str, answer: Answer) -> StepResult:
        """What becomes of a job whose file was not taken."""
        now = self._governor.now()
        verdict = judge_submit(answer)
        reason = f"uploading its file: {verdict.reason or describe(answer)}"
        match verdict.meaning:
            case Meaning.NEVER_LEFT:
                # Only uploads wait: what is in flight is at another host.
                self._unreached += 1
                wait_s = 0.25 + full_jitter(self._unreached, self._rng, cap_s=UNREACHABLE_CAP_S)
                self._later[""] = now + wait_s
                return StepResult(State.PENDING, now + wait_s, reason=reason)
            case Meaning.RATE_LIMITED:
                return StepResult(State.PENDING, self._governor.rate_limited(answer), reason=reason)
            case Meaning.KEY_REFUSED:
                return StepResult(State.PENDING, now, Consequence.KEY_REFUSED, reason)
            case Meaning.OUT_OF_CREDITS:
                return StepResult(State.PENDING, now, Consequence.OUT_OF_CREDITS, reason)
            case Meaning.INVALID:
                return StepResult(State.FAILED, reason=f"its file was refused: {verdict.reason}")
            case Meaning.IN_DOUBT | Meaning.REFUSED | Meaning.ACCEPTED:
                return self._again(sha256, reason)
        return _pause(
            f"files cannot be uploaded to {self._rules.host} ({describe(answer)}); is `api.upload_url`"
            " right? `api.inputs: inline` does without"
        )

    def _again(self, sha256: str, reason: str) -> StepResult:
        """An upload may be repeated whatever became of it: it costs nothing."""
        self._tries[sha256] += 1
        tries = self._tries[sha256]
        if tries >= self._rules.attempts:
            del self._tries[sha256]
            return StepResult(State.FAILED, reason=f"given up after {tries} times {reason}")
        again_at = self._governor.now() + full_jitter(tries, self._rng)
        self._later[sha256] = again_at
        return StepResult(State.PENDING, again_at, reason=reason)


def _sent(record: Record, texts: Mapping[str, str]) -> dict[str, Any]:
    return {name: filled(value, texts) for name, value in record.params.items()}


def _pause(reason: str) -> StepResult:
    return StepResult(State.PENDING, None, Consequence.PAUSE, reason)
