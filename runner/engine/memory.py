"""What a run has learned of the account and its models, kept in the ledger for the next one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from runner.governor import Governor
from runner.ledger import Ledger
from runner.policy.polling import PollSchedule

PACE_FACT = "learned rate"
LATENCIES_FACT = "learned latencies"
# A run that dies loses what it has learned in this time, and nothing else.
EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Learned:
    """The values as policies give and take them; empty where there are none yet."""

    pace: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)


class Memory:
    """Writes down now and then what governor and schedule have learned."""

    def __init__(self, ledger: Ledger, governor: Governor, schedule: PollSchedule) -> None:
        self._ledger = ledger
        self._governor = governor
        self._schedule = schedule
        self._kept: dict[str, str] = {}

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._governor.sleep(EVERY_S)
            await self.keep()

    async def keep(self) -> None:
        """Writes what has changed."""
        facts = {
            PACE_FACT: self._governor.remembered(),
            LATENCIES_FACT: self._schedule.remembered(),
        }
        for name, value in facts.items():
            text = json.dumps(value)
            if value and self._kept.get(name) != text:
                self._kept[name] = text
                await self._ledger.remember(name, text)


async def recall(ledger: Ledger) -> Learned:
    """What earlier runs on this ledger have learned."""
    return Learned(
        pace={name: float(value) for name, value in (await _fact(ledger, PACE_FACT)).items()},
        latencies={
            model: [float(seconds) for seconds in latencies]
            for model, latencies in (await _fact(ledger, LATENCIES_FACT)).items()
        },
    )


async def _fact(ledger: Ledger, name: str) -> dict[str, Any]:
    return dict(json.loads(await ledger.fact(name) or "{}"))
