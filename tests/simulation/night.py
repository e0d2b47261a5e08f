"""One night: lives that end as the weather has it, then a last calm one; all on one disk."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import anyio

from runner.downloader import Downloader
from runner.engine import Bounds, Engine, Steps
from runner.events import Ending, Event
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
from runner.policy.polling import SCOUT_FIRST_S
from runner.poller import Poller
from runner.reconciler import DoubtRules, Reconciler
from runner.submitter import SubmitRules, Submitter
from runner.treasurer import Treasurer

from . import invariants
from .database import CommitDeath, Disk, LoopConnection, make_disk, open_ledger
from .line import Line
from .loop import Killed, Stuck, VirtualLoop
from .server import EPOCH, Server
from .weather import RETENTION_S, TIMEOUT_S, Death, Life, Weather, draw

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108
STEPS_WITH_POINTS = ("runner.submitter", "runner.poller", "runner.downloader")
# Whatever was on its way or on its way to the history is there by then.
SETTLING_S = 300.0
SIGNAL = "SIGTERM"


@dataclass(slots=True)
class Told:
    """What came of a night."""

    seed: int
    violations: list[str] = field(default_factory=list)
    lives: int = 0
    kills: int = 0
    lost: int = 0
    accepted: int = 0
    states: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(slots=True)
class Lived:
    """What is known of a life when it is over. Times are true seconds."""

    life: Life
    began: float
    line: Line
    ended: float = 0.0
    killed: bool = False
    ending: Ending | None = None


class NightClock(Clock):
    """Our clocks: the loop's time, and a wall clock that may be wrong."""

    def __init__(self, loop: VirtualLoop, skew_s: float) -> None:
        self._loop = loop
        self._skew_s = skew_s

    def wall(self) -> float:
        """Our epoch time."""
        return EPOCH + self._loop.time() + self._skew_s

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()


class Night:
    """Plays one weather to its end and looks at what is left."""

    def __init__(self, weather: Weather, log: Callable[[str], None] | None = None) -> None:
        self.weather = weather
        self.told = Told(weather.seed)
        self.lived: list[Lived] = []
        self.lost_files: set[str] = set()
        self._digest = hashlib.sha256()
        self._print = log
        self.server = Server(weather)
        self.server.log = self.log
        self.disk: Disk = make_disk()
        self.folder = Path(tempfile.mkdtemp(prefix="night-", dir=SCRATCH))
        self._time = 0.0

    def log(self, at: float, text: str) -> None:
        """One line of what happened; all of them together are the night's fingerprint."""
        line = f"{at:12.3f} {text}"
        self._digest.update(line.encode())
        if self._print is not None:
            self._print(line)

    def play(self) -> Told:
        """All lives and the last calm one."""
        try:
            with _patched():
                for life in self.weather.lives:
                    self._live(life)
                calm = replace(CALM, skew_s=self.weather.lives[-1].skew_s)
                self._calm()
                self._live(calm)
                if self._anything("state IN ('expired', 'in_doubt')"):
                    # What works for longer than its hour is in the history when it is done, and what
                    # was sent in a run is evidence in the next one.
                    self._calm()
                    self._live(calm)
                for line in invariants.stories(self):
                    self.log(self._time, line)
                self.violations(invariants.of_the_night(self))
        finally:
            self.disk.close()
            shutil.rmtree(self.folder)
        self.told.accepted = len(self.server.own())
        self.told.lost = sum(lived.line.lost for lived in self.lived)
        self.told.fingerprint = self._digest.hexdigest()
        return self.told

    def violations(self, found: list[str]) -> None:
        """Takes down what must not be."""
        for text in found:
            self.log(self._time, f"VIOLATION {text}")
            self.told.violations.append(text)

    def _calm(self) -> None:
        """The troubles end, and what was under way on the server is finished."""
        self._time = max(self._time + SETTLING_S, self._latest() + 1.0)
        self.server.advance(self._time)
        self.server.calm = True
        self.server.balance = None

    def _latest(self) -> float:
        return max((request.done_at for request in self.server.requests.values()), default=0.0)

    def _anything(self, condition: str) -> bool:
        query = f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {condition})"  # noqa: S608
        return bool(self.disk.execute(query).fetchone()[0])

    def _live(self, life: Life) -> None:
        number = len(self.lived)
        self.log(self._time, f"life {number}: {life}")
        self.server.advance(self._time)
        death = life.death
        loop = VirtualLoop(self._time, death.number if death.kind == "step" else None)
        line = Line(self.server, loop, Random(f"line {self.weather.seed} {number}"), number)
        lived = Lived(life, self._time, line)
        self.lived.append(lived)
        if life.loses_files:
            self._lose_file(Random(f"files {self.weather.seed} {number}"))
        try:
            lived.killed = not loop.live(self._run(lived, loop, number))
        except Stuck as stuck:
            self.violations([f"life {number} does not end: {stuck}"])
        except Exception as error:
            self.violations([f"life {number} failed: {type(error).__name__}: {error}"])
        finally:
            self._time = lived.ended = loop.now
            self._die(lived)
            self.disk.death = None
            loop.bury()
        self.log(self._time, f"life {number} ended: killed={lived.killed} {lived.ending}")
        self.told.lives += 1
        self.told.kills += lived.killed
        self._time += TIMEOUT_S if life is CALM else life.pause_s
        self.server.advance(self._time)
        self.violations(invariants.of_a_life(self, lived))

    def _lose_file(self, rng: Random) -> None:
        files = sorted(path for path in self.folder.rglob("*.mp4"))
        if files:
            lost = rng.choice(files)
            lost.unlink()
            self.lost_files.add(lost.name)

    def _die(self, lived: Lived) -> None:
        lived.line.dead = True
        if self._connection is not None:
            self._connection.dead = True

    _connection: LoopConnection | None = None

    async def _run(self, lived: Lived, loop: VirtualLoop, number: int) -> None:
        """What `runner run` does, with the night's own clock, rng, server and disk."""
        weather, life = self.weather, lived.life
        rng = Random(f"run {weather.seed} {number}")
        connection = LoopConnection(self.disk, loop, Random(f"disk {weather.seed} {number}"))
        self._connection = connection
        self._prepare_death(lived)
        ledger = open_ledger(connection)
        clock = NightClock(loop, weather.skew_s + life.skew_s)
        key = await _plan(ledger, weather, clock.wall())
        await ledger.doubt_interrupted(clock.wall())
        if life.retries:
            states = tuple(State(state) for state in life.retries)
            await retry(ledger, Selection(states=states), clock.wall())
        governor = Governor(Pace(life.rpm), rng, self._see, clock)
        aside = governor
        if not weather.history.same_host:
            aside = Governor(Pace(life.rpm), Random(rng.random()), self._see, clock)
        api: Any = lived.line
        doubt = DoubtRules(
            life.on_doubt,  # type: ignore[arg-type]
            life.on_expired,  # type: ignore[arg-type]
            weather.doubt_wait_s,
            TIMEOUT_S,
            RETENTION_S,
        )
        rules = SubmitRules(weather.attempts, RETENTION_S)
        steps = Steps(
            Submitter(ledger, api, governor, rules, rng, self._see),
            Poller(ledger, api, governor, rng, self._see),
            Downloader(ledger, api, governor, self.folder),
            Inventory(ledger, governor, self.folder),
            Reconciler(ledger, api, aside, doubt, self._see),
            Treasurer(api, governor, self._see),
        )
        prices = {slug: model.cost for slug, model in weather.models.items()}
        gate = Gate(
            Admission(life.concurrency, life.rpm, RETENTION_S, clock.wall()),
            Budget(life.budget, prices),
            Breaker(weather.breaker),
            life.limit,
        )
        bounds = Bounds(3, 120.0, life.wait_for_credits)
        engine = Engine(ledger, governor, steps, gate, bounds, [key], self._see)
        await engine.recover()
        if life.death.kind in ("drain", "stop"):
            act = engine.drain if life.death.kind == "drain" else engine.stop
            loop.call_later(life.death.at_s, act, SIGNAL)
        lived.ending = await engine.run()

    def _prepare_death(self, lived: Lived) -> None:
        death = lived.life.death
        if death.kind == "commit":
            self.disk.dying = lambda: self._die(lived)
            self.disk.death = CommitDeath(death.number, death.after)
        _reach.arm(death, lambda: self._die(lived))

    def _see(self, event: Event) -> None:
        self.log(self.lived[-1].line.loop.now, str(event))


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


_reach = _Reach()
CALM = Life(pause_s=0.0)


def play(seed: int, log: Callable[[str], None] | None = None) -> Told:
    """The night of a seed."""
    return Night(draw(seed), log).play()


def play_all(seeds: Iterable[int]) -> list[Told]:
    """Some nights in a row."""
    return [play(seed) for seed in seeds]


@contextmanager
def _patched() -> Iterator[None]:
    """Crash points of this night, and work in threads done at once."""
    with ExitStack() as stack:
        for module in STEPS_WITH_POINTS:
            stack.enter_context(patch(f"{module}.reach", _reach))
        stack.enter_context(patch("anyio.to_thread.run_sync", _at_once))
        # Other tests are in a hurry to ask; a night is to be the same wherever it is played.
        stack.enter_context(patch("runner.policy.polling.SCOUT_FIRST_S", SCOUT_FIRST_S))
        # Its jitter has a seed of its own, or no night could be told again.
        stack.enter_context(patch("runner.engine.fetching.Random", lambda: Random(0)))
        yield


async def _at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    # A thread's work is not undone when the one who waits for it dies.
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
