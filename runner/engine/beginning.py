"""The first thing of a run: it hears the server's time, and takes over what earlier runs have sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from runner.events import Noted, Observer
from runner.governor import Governor
from runner.job import State
from runner.ledger import Event, Ledger, Record
from runner.policy.backoff import full_jitter
from runner.poller import Poller
from runner.treasurer import Treasurer

# Who answers nothing at all so often may still answer to something else.
HEARINGS = 5
HEARING_CAP_S = 10.0
# How long after a job's hour it is surely over.
SURELY_OVER_S = 60.0
# The server's time is told in seconds, and clocks drift: less than this is none that was set.
DRIFT_S = 5.0


class Beginning:
    """Before a job's POST leaves it is known when that is by the server's clock, wherever it tells."""

    def __init__(
        self,
        ledger: Ledger,
        governor: Governor,
        treasurer: Treasurer,
        poller: Poller,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._governor = governor
        self._treasurer = treasurer
        self._poller = poller
        self._observer = observer
        self._rng = Random()

    async def hear(self, is_over: Callable[[], bool]) -> None:
        """Asks for the balance, which is free, until an answer tells the time or `is_over`."""
        for tries in range(HEARINGS):
            if is_over() or self._governor.server.is_known:
                return
            answer = await self._treasurer.ask()
            if answer.status is not None and answer.server_time is None:
                return
            if tries == 1 and answer.status is None:
                self._observer(Noted("the API does not answer yet; nothing is sent before it does"))
            await self._governor.sleep(full_jitter(tries, self._rng, cap_s=HEARING_CAP_S))

    async def take_over(self) -> list[Record]:
        """What is in flight is watched by the clock of now; returns what is surely over instead."""
        await self._ledger.forget_put_off()
        now, server = self._governor.now(), self._governor.server
        if (ahead_s := server.earliest(0.0)) is not None:
            await self._ledger.retime(ahead_s, DRIFT_S)
        over: list[Record] = []
        for record in await self._ledger.submitted():
            if self._is_surely_over(record, now):
                # A poll would only say 404: the history is asked instead.
                why = "its hour passed while no run was under way"
                await self._ledger.end(record, State.EXPIRED, Event(now, detail=why))
                over.append(record)
            else:
                self._poller.watch(self._unhurried(record, now))
        return over

    def _is_surely_over(self, record: Record, now: float) -> bool:
        server_now = self._governor.server.earliest(now)
        if server_now is None or record.server_at is None:
            return False
        return server_now > record.server_at + _retention_s(record) + SURELY_OVER_S

    def _unhurried(self, record: Record, now: float) -> Record:
        """A job whose hour is not told by the server's clock may have been sent just before."""
        if self._governor.server.is_known and record.server_at is not None:
            return record
        latest = now + _retention_s(record)
        return replace(record, deadline=max(record.deadline or latest, latest))


def _retention_s(record: Record) -> float:
    return (record.deadline or 0.0) - (record.submitted_at or 0.0)
