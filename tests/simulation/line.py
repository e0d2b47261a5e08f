"""What stands between one life and the server: the way there and back, with its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio

from runner.api import HistoryQuery
from runner.fetcher import FetchFailed, Look
from runner.job import Answer, Fault

from .archive import Archive
from .database import Dead
from .loop import VirtualLoop
from .server import WINDOW_S, Server
from .weather import TIMEOUT_S

T = TypeVar("T")

# A turn is granted before the intent is committed, and the request leaves after that.
COMMIT_GRACE_S = {"quick": 2.0, "slow": 30.0}


@dataclass(slots=True)
class Sent:
    """A request that left: when, what and whether the API's own host was meant."""

    at: float
    kind: str
    main: bool


@dataclass(slots=True)
class Line:
    """The API and the media host as one life sees them; also its `Api` and its `Fetcher`."""

    server: Server
    loop: VirtualLoop
    rng: Random
    life: int
    dead: bool = False
    sent: list[Sent] = field(default_factory=list)
    held: tuple[float, float] = (0.0, 0.0)
    lost: int = 0
    overruns: list[str] = field(default_factory=list)

    @property
    def grace_s(self) -> float:
        """How long after its turn a request may leave."""
        return COMMIT_GRACE_S[self.server.weather.disk]

    # The requests of `runner.api.Api`.

    async def submit(self, model: str, params: Mapping[str, Any]) -> Answer:
        """`POST /v2/{model}`."""
        return await self._exchange("submit", lambda: self.server.submit(model, params, self.life))

    async def status(self, request_id: str) -> Answer:
        """`GET /v2/requests/{id}/status`."""
        return await self._exchange("status", lambda: self.server.status(request_id))

    async def result(self, request_id: str) -> Answer:
        """`GET /v2/requests/{id}`."""
        return await self._exchange("result", lambda: self.server.result(request_id))

    async def credits(self) -> Answer:
        """`GET /v1/get-user-credits`."""
        return await self._exchange("credits", self.server.credits)

    async def history(self, query: HistoryQuery) -> Answer:
        """One page of the history."""
        return await self._exchange("history", lambda: Archive(self.server).history(query))

    async def history_of(self, request_id: str) -> Answer:
        """One request's row."""
        return await self._exchange("history", lambda: Archive(self.server).history_of(request_id))

    # And the one of `runner.fetcher.Fetcher`.

    async def fetch(self, url: str, part: Path, look: Look[T]) -> T:
        """Writes a file, or only half of it, and looks at it."""
        await self._sleep(self.rng.uniform(0.01, 1.0))
        data = self.server.file(url)
        if data is None:
            raise FetchFailed("the media server answered HTTP 404", 404)
        if not self.server.calm and self.rng.random() < self.server.weather.wire.media_errors:
            _write(part, data[: len(data) // 2])
            raise FetchFailed("only half of the bytes came")
        _write(part, data)
        return look("video/mp4", data)

    async def _exchange(self, kind: str, arrive: Callable[[], Answer]) -> Answer:
        if self.dead:
            raise Dead
        main = kind != "history" or self.server.weather.history.same_host
        self._witness(kind, main)
        wire, calm, now = self.server.weather.wire, self.server.calm, self.loop.now
        outage = None if calm or not main else self._outage(now)
        fates = self.rng.random(), self.rng.random(), self.rng.random()
        uplink_s, downlink_s = self.rng.uniform(0.005, 0.4), self.rng.uniform(0.005, 0.4)
        if outage == "refuse" or (not calm and fates[0] < wire.never_left):
            await self._sleep(self.rng.choice((0.001, 1.0)))
            self._log(kind, "never left")
            return Answer(None, text="Cannot connect to host", fault=Fault.NEVER_LEFT)
        if outage == "silence":
            return await self._nothing(kind, TIMEOUT_S)
        if outage is not None:
            await self._sleep(uplink_s + downlink_s)
            self._log(kind, outage)
            return self.server.answer(int(outage))
        if not calm and kind != "history" and fates[1] < wire.slow:
            slow_s = self.rng.uniform(1.0, TIMEOUT_S)
            is_up = self.rng.random() < 0.5
            uplink_s, downlink_s = (slow_s, downlink_s) if is_up else (uplink_s, slow_s)
        if kind == "history":
            uplink_s += self.rng.uniform(0.0, self.server.weather.history.slow_s)
        box: list[tuple[Answer, float]] = []
        # The server's own event: it arrives whether its sender still lives by then or not.
        self._arrive_later(now + uplink_s, lambda: box.append((arrive(), self.server.reset_at)))
        if not calm and fates[2] < wire.lost:
            self.lost += 1
            return await self._nothing(kind, self.rng.choice((uplink_s + 0.1, TIMEOUT_S)))
        if uplink_s + downlink_s > TIMEOUT_S:
            return await self._nothing(kind, TIMEOUT_S)
        await self._sleep(uplink_s + downlink_s)
        seconds = self.loop.now - now
        if seconds > TIMEOUT_S + 1.0 and self.rng.random() < 0.5:
            self._log(kind, "the connection was lost in sleep")
            return Answer(None, text="Connection reset by peer", fault=Fault.NO_ANSWER)
        answer, reset_at = box[0]
        answer = replace(answer, seconds=seconds)
        self._log(kind, f"{answer.status} {answer.text[:80]}")
        if answer.status == 429:
            self._hold(reset_at)
        return answer

    def _arrive_later(self, at: float, arrive: Callable[[], None]) -> None:
        """What had not left when the computer went to sleep may leave when it wakes."""
        asleep_s = self.loop.asleep_s(at)
        is_late = bool(asleep_s) and self.rng.random() < 0.5

        def leave() -> None:
            # Whoever is dead by then has not lived to the sleep, and the next one begins before it.
            if is_late and not self.dead:
                self.server.at(at + asleep_s, arrive)
            else:
                arrive()

        self.server.at(at, leave)

    async def _nothing(self, kind: str, after_s: float) -> Answer:
        await self._sleep(after_s)
        self._log(kind, "no answer")
        return Answer(None, text="Connection reset by peer", fault=Fault.NO_ANSWER)

    async def _sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        if self.dead:
            raise Dead
        self.server.advance(self.loop.now)

    def _outage(self, now: float) -> str | None:
        for outage in self.server.weather.wire.outages:
            if outage.start <= now < outage.end:
                return outage.kind
        return None

    def _witness(self, kind: str, main: bool) -> None:
        now = self.loop.now
        self.sent.append(Sent(now, kind, main))
        began, until = self.held
        # Awake, because a turn that was granted before a sleep is used after it.
        if main and began + self.grace_s < self.loop.time() and now < until:
            self.overruns.append(f"{kind} left at {now:.1f}, held until {until:.1f}")

    def _hold(self, reset: float) -> None:
        """A 429 was read: what leaves before the time that it names is too early."""
        now, form = self.loop.now, self.server.weather.wire.reset_form
        # Times are told in whole seconds, and without the Date header in a clock that we do not know.
        slack_s = 1.0 if self.server.weather.dated else 8.0
        until = now + WINDOW_S if form == "none" else reset - slack_s
        began = self.held[0] if self.held[1] > now else self.loop.time()
        if until > self.held[1]:
            self.held = (began, until)

    def _log(self, kind: str, text: str) -> None:
        self.server.log(self.loop.now, f"{kind}: {text}")


def _write(part: Path, data: bytes) -> None:
    part.write_bytes(data)
