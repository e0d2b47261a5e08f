"""A simulated account in virtual time: clients that always have something to send, and its windows."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from random import Random
from typing import Any

from benchmarks.world import Window, WindowKind
from runner.policy.pace import Pace


@dataclass
class Client:
    """One client and what became of its requests: when each was let through, and refused."""

    pace: Pace
    begins: float = 0.0
    ends: float = inf
    sent: int = 0
    passed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    left_while_held: int = 0

    @property
    def refused_share(self) -> float:
        return len(self.refused) / max(self.sent, 1)


@dataclass
class Account:
    """`free_share` of the requests count for nothing; `travel_s` there and back, of each request."""

    kind: WindowKind
    rpm: int
    phase_s: float = 0.0
    seed: int = 1
    travel_s: tuple[float, float] = (0.05, 0.4)
    free_share: float = 0.0
    change: tuple[float, int] | None = None

    def run(self, seconds: float, clients: Sequence[Client]) -> None:
        """Every client sends as fast as its pace allows; resets are told in whole seconds."""
        rng, window = Random(self.seed), Window(self.kind, self.rpm, self.phase_s)
        numbers = itertools.count()
        events: list[tuple[float, int, str, Client, Any]] = []

        def at(time: float, what: str, client: Client, told: Any = None) -> None:
            heapq.heappush(events, (time, next(numbers), what, client, told))

        for client in clients:
            at(client.begins, "send", client)
        while events and (event := heapq.heappop(events))[0] <= seconds:
            now, _, what, client, told = event
            if self.change and now >= self.change[0]:
                window.rpm = self.change[1]
            if what == "send" and now < client.ends:
                if (wait_s := client.pace.wait_s(now)) > 0:
                    at(now + wait_s, "send", client)
                    continue
                client.left_while_held += now < client.pace.held_until
                client.pace.take(now)
                client.sent += 1
                at(now + rng.uniform(*self.travel_s) / 2, "arrive", client, now)
                at(now + 1e-4, "send", client)
            elif what == "arrive":
                is_free = rng.random() < self.free_share
                free_at = now if is_free else window.free_at(now)
                if free_at <= now:
                    if not is_free:
                        window.take(now)
                    client.passed.append(now)
                else:
                    back_s = rng.uniform(*self.travel_s) / 2
                    at(now + back_s, "refuse", client, (told, max(ceil(free_at), now + 1)))
            elif what == "refuse":
                left, until = told
                client.refused.append(now)
                client.pace.refused(now, until, left)
                client.pace.hold(until + rng.uniform(0.05, 0.75))
