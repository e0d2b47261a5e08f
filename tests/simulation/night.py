"""One night: lives that end as the weather has it, then a last calm one; all on one disk."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from runner.events import Event

from . import invariants
from .database import CommitDeath, Disk, make_disk
from .life import REACH, Lived, NightClock, patched, run
from .line import Line
from .loop import Stuck, VirtualLoop
from .rows import stories
from .server import Server
from .themes import draw
from .weather import TIMEOUT_S, Life, Weather

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108
# Whatever was on its way or on its way to the history is there by then.
SETTLING_S = 300.0
# As many as there is something to send in; more than two are seldom.
CALM_LIVES = 10


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
        self._set_s = 0.0

    def log(self, at: float, text: str) -> None:
        """One line of what happened; all of them together are the night's fingerprint."""
        line = f"{at:12.3f} {text}"
        self._digest.update(line.encode())
        if self._print is not None:
            self._print(line)

    def play(self) -> Told:
        """All lives and the last calm one."""
        try:
            with patched():
                for life in self.weather.lives:
                    self._live(life)
                calm = replace(CALM, skew_s=self.weather.lives[-1].skew_s)
                for number in range(CALM_LIVES):
                    sent = len(self.server.own())
                    self._calm()
                    self._live(calm)
                    # What works for longer than its hour is in the history when it is done, and what
                    # was sent in a run is evidence in the next one.
                    is_still = number > 0 and len(self.server.own()) == sent
                    if is_still or not self._anything("state IN ('expired', 'in_doubt')"):
                        break
                for line in stories(self):
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
        dies_at = death.number if death.kind == "step" else None
        loop = VirtualLoop(self._time, dies_at, life.sleeps)
        line = Line(self.server, loop, Random(f"line {self.weather.seed} {number}"), number)
        self._set_s += life.set_s
        ahead_s = self.weather.skew_s + self._set_s + life.skew_s
        clock = NightClock(loop, ahead_s, life.jumps)
        lived = Lived(life, self._time, line, clock, ahead_s=ahead_s)
        self.lived.append(lived)
        if life.loses_files:
            self._lose_file(Random(f"files {self.weather.seed} {number}"))
        self._prepare_death(lived)
        try:
            lived.killed = not loop.live(run(self, lived, loop))
        except Stuck as stuck:
            self.violations([f"life {number} does not end: {stuck}"])
        except Exception as error:
            self.violations([f"life {number} failed: {type(error).__name__}: {error}"])
        finally:
            self._time = lived.ended = loop.now
            self._set_s += clock.jumped_s()
            query = "SELECT coalesce(max(attempt_key), 0) FROM attempts"
            (lived.last_attempt,) = self.disk.execute(query).fetchone()
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
        if lived.connection is not None:
            lived.connection.dead = True

    def _prepare_death(self, lived: Lived) -> None:
        death = lived.life.death
        if death.kind == "commit":
            self.disk.dying = lambda: self._die(lived)
            self.disk.death = CommitDeath(death.number, death.after)
        REACH.arm(death, lambda: self._die(lived))

    def see(self, event: Event) -> None:
        self.log(self.lived[-1].line.loop.now, str(event))


CALM = Life(pause_s=0.0)


def play(seed: int, log: Callable[[str], None] | None = None) -> Told:
    """The night of a seed."""
    return Night(draw(seed), log).play()


def play_all(seeds: Iterable[int]) -> list[Told]:
    """Some nights in a row."""
    return [play(seed) for seed in seeds]
