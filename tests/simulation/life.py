"""One life: the real steps and the real engine put together as `runner run` does, before the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio

from runner.archive import Archive
from runner.downloader import Downloader
from runner.engine import Bounds, Engine, Steps, recall
from runner.events import Ending
from runner.gate import Gate
from runner.governor import Clock, Governor
from runner.inventory import Inventory
from runner.job import Job, State
from runner.ledger import Ledger, Planning, Source, find_manifest
from runner.ledger.reading import Selection, retry
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget
from runner.policy.pace import Pace
from runner.policy.polling import SCOUT_FIRST_S, PollSchedule
from runner.policy.route import Route
from runner.poller import Pages, Poller
from runner.reconciler import DoubtRules, Reconciler
from runner.submitter import SubmitRules, Submitter
from runner.treasurer import Treasurer

from .database import LoopConnection, open_ledger
from .line import Line
from .loop import Killed, VirtualLoop
from .server import EPOCH
from .weather import RETENTION_S, TIMEOUT_S, Death, Life, Weather

if TYPE_CHECKING:
    from .night import Night

STEPS_WITH_POINTS = ("runner.submitter", "runner.poller.poller", "runner.downloader")
STEPS_WITH_FILES = ("runner.downloader", "runner.inventory")
STEPS_WITH_JITTER = ("runner.engine.beginning", "runner.engine.fetching")
SIGNAL = "SIGTERM"


class NightClock(Clock):
    """Our clocks: the loop's time, a wall clock that may be wrong and set, and one that nobody sets."""

    def __init__(
        self, loop: VirtualLoop, ahead_s: float, jumps: tuple[tuple[float, float], ...]
    ) -> None:
        super().__init__()
        self._loop = loop
        self._began = loop.now
        self._ahead_s = ahead_s
        self._jumps = jumps

    def wall(self) -> float:
        """Our epoch time."""
        return EPOCH + self._loop.now + self._ahead_s + self.jumped_s()

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def steady(self) -> float:
        """True time since some moment or other."""
        return self._loop.now + 12345.0

    def jumped_s(self) -> float:
        """By how much it was set in this life so far."""
        age_s = self._loop.now - self._began
        return sum(by_s for after_s, by_s in self._jumps if after_s <= age_s)


@dataclass(slots=True)
class Lived:
    """What is known of a life when it is over. Times are true seconds."""

    life: Life
    began: float
    line: Line
    clock: NightClock
    ended: float = 0.0
    killed: bool = False
    ending: Ending | None = None
    connection: LoopConnection | None = None
    signalled_at: float | None = None
    # By how much our clock is ahead in this life, and the last line of the ledger's history that is its.
    ahead_s: float = 0.0
    last_attempt: int | None = None


async def run(night: Night, lived: Lived, loop: VirtualLoop) -> None:
    """What `runner run` does, with the night's own clock, rng, server and disk."""
    weather, life, number = night.weather, lived.life, lived.line.life
    rng = Random(f"run {weather.seed} {number}")
    connection = LoopConnection(
        night.disk, loop, Random(f"disk {weather.seed} {number}"), weather.disk
    )
    lived.connection = connection
    ledger = open_ledger(connection)
    clock = lived.clock
    key = await _plan(ledger, weather, clock.now())
    await ledger.doubt_interrupted(clock.now())
    if life.retries:
        states = tuple(State(state) for state in life.retries)
        await retry(ledger, Selection(states=states), clock.now())
    learned = await recall(ledger)
    governor = Governor(Pace(life.rpm, learned.pace, clock.now()), rng, night.see, clock)
    aside = governor
    if not weather.history.same_host:
        aside = Governor(Pace(life.rpm), Random(rng.random()), night.see, clock)
    api: Any = lived.line
    doubt = DoubtRules(
        life.on_doubt,  # type: ignore[arg-type]
        life.on_expired,  # type: ignore[arg-type]
        weather.doubt_wait_s,
        TIMEOUT_S,
        RETENTION_S,
    )
    rules = SubmitRules(weather.attempts, RETENTION_S)
    by_pages = life.poll == "history"
    route = Route("auto" if by_pages else life.poll)  # type: ignore[arg-type]
    schedule = PollSchedule(governor.rpm, learned.latencies)
    poller = Poller(ledger, api, governor, rng, night.see, route, schedule)
    steps = Steps(
        Submitter(ledger, api, governor, rules, rng, night.see),
        poller,
        Downloader(ledger, api, governor, night.folder),
        Inventory(ledger, governor, night.folder),
        Reconciler(ledger, api, aside, doubt, night.see),
        Treasurer(api, governor, night.see),
        Pages(poller, Archive(api, aside, night.see), ledger, aside) if by_pages else None,
    )
    prices = {slug: model.cost for slug, model in weather.models.items()}
    gate = Gate(
        Admission(life.concurrency, life.rpm, RETENTION_S, clock.now()),
        Budget(life.budget, prices),
        Breaker(weather.breaker),
        life.limit,
    )
    bounds = Bounds(3, 120.0, life.wait_for_credits)
    engine = Engine(ledger, governor, steps, gate, bounds, [key], night.see)
    await engine.recover()
    if life.death.kind in ("drain", "stop"):
        act = engine.drain if life.death.kind == "drain" else engine.stop
        loop.call_later(life.death.at_s, _signal, lived, loop, act)
    lived.ending = await engine.run()


def _signal(lived: Lived, loop: VirtualLoop, act: Callable[[str], None]) -> None:
    lived.signalled_at = loop.now
    act(SIGNAL)


class _Reach:
    """Takes the place of `crash_points.reach`: dies at the named point's n-th passing."""

    def __init__(self) -> None:
        self._death = Death()
        self._left = 0
        self._dying: Callable[[], None] = lambda: None

    def arm(self, death: Death, dying: Callable[[], None]) -> None:
        """Sets where this life dies."""
        self._death, self._left, self._dying = death, death.number, dying

    def __call__(self, point: str) -> None:
        if self._death.kind != "point" or point != self._death.point:
            return
        self._left -= 1
        if self._left == 0:
            self._dying()
            raise Killed


REACH = _Reach()


@contextmanager
def patched() -> Iterator[None]:
    """Crash points of this night, and work in threads done at once."""
    with ExitStack() as stack:
        for module in STEPS_WITH_POINTS:
            stack.enter_context(patch(f"{module}.reach", REACH))
        for module in STEPS_WITH_FILES:
            stack.enter_context(patch(f"{module}.on_disk", _on_disk))
        # Other tests are in a hurry to ask; a night is to be the same wherever it is played.
        stack.enter_context(patch("runner.policy.polling.SCOUT_FIRST_S", SCOUT_FIRST_S))
        # Their jitter has a seed of its own, or no night could be told again.
        for module in STEPS_WITH_JITTER:
            stack.enter_context(patch(f"{module}.Random", lambda: Random(0)))
        yield


async def _on_disk(work: Callable[..., Any], *arguments: Any) -> Any:
    # A thread's work is done whether the one who waits for it is cancelled or not.
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.001)
    return work(*arguments)


async def _plan(ledger: Ledger, weather: Weather, now: float) -> int:
    jobs = [
        Job(id, "m", model, body, index=index, output=f"{id}.{{ext}}", source=f"m.yaml:{index + 1}")
        for index, (id, model, body) in enumerate(weather.jobs)  # noqa: A001
    ]
    planning = Planning(ledger)
    await planning.begin()
    await planning.stage(jobs)
    await planning.adopt([Source("m", Path("m.yaml"), "", Path("/pictures"))], now)
    await planning.end()
    found = await find_manifest(ledger, "m")
    assert found is not None
    return found[0]
