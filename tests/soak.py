"""A soak test, apart from the test command: the real command, killed a thousand times, and then audited.

    python tests/soak.py --kills 1000 --jobs 20000 --lost-answers 0.05 --history on

The command works against a simulated API in a process of its own, which keeps its own book of what it
accepted. SIGKILL comes at random instants: while the program starts and plans, while it works, and at
its named crash points. At the end the book, the ledger and the files are held against each other.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click
from soak_audit import KEY, Audit, audit

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = "soak.yaml"
MODELS = 20
CONCURRENCY = 64
AMPLE_RPM = 600_000
# Shares of lives: killed while they start, while they plan a rewritten manifest, at a crash point.
EARLY, REPLANNED, AT_POINTS = 0.08, 0.02, 0.1
# How long the interpreter takes to load the program, and how long a life works after that.
START_S, WORK_S = 0.55, (0.3, 3.0)
PLANNING_S = 3.0
# Little is left of a life that must be shorter than this, and nobody waits for longer ones.
STRETCH = (0.15, 3.0)
WINDOW_S = 2.0
CALM_RUNS, CALM_RUN_S = 6, 1200.0
POINTS = (
    "intent-committed",
    "submit-answered",
    "request-id-committed",
    "result-received",
    "result-committed",
    "file-checked",
    "file-renamed",
    "saved-committed",
)
MARKERS = (("[[slow-answer]]", 0.2), ("[[media-drip]]", 0.1), ("[[media-truncated-once]]", 0.02))


def per_window(rpm: int | None) -> int | None:
    """A rate by the minute as one by the short window."""
    return None if rpm is None else max(round(rpm * WINDOW_S / 60.0), 1)


async def serve(asked: argparse.Namespace, folder: Path) -> None:
    """The simulated API: says its origin on stdout, ends with its stdin."""
    from runner.sandbox import Options, Sandbox
    from runner.sandbox.latency import Servers

    servers = 8
    options = Options(
        # So many servers that the jobs last as long as the kills, whatever is in flight.
        latency=Servers(servers, servers * asked.seconds / asked.jobs),
        # A life is shorter than the minute that the real API's windows are thought to last.
        window_s=WINDOW_S,
        rpm=per_window(asked.rpm),
        history_rpm=per_window(asked.history_rpm),
        history=asked.history,
        history_delay_s=asked.history_delay,
        lost_answers=asked.lost_answers,
        error_rate=asked.error_rate,
        slow_s=0.4,
        drip_s=0.4,
        picture_px=32,
        seed=asked.seed,
        journal=folder / "server.jsonl",
    )
    async with Sandbox(options) as sandbox:
        click.echo(sandbox.url)
        await asyncio.to_thread(sys.stdin.read)


@dataclass
class Soak:
    """A folder with manifest and ledger, the lives that worked in it, and how they ended."""

    asked: argparse.Namespace
    folder: Path
    rng: Random
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)
    stretch: float = 1.0
    worked_s: float = 0.0
    _accepted: int = 0
    _read_bytes: int = 0

    def prepare(self, url: str) -> None:
        """Config and manifest; the key is in the environment only."""
        lines = (
            # A rate that is not known would be felt for anew in each of these short lives.
            f"api: {{base_url: '{url}', history_url: '{url}', timeout: 2s, rpm: {AMPLE_RPM}}}",
            f"run: {{concurrency: {CONCURRENCY}, doubt_wait: {self.asked.doubt_wait}, gallery: false}}",
        )
        (self.folder / "config.yaml").write_text("\n".join(lines), "utf-8")
        entries = [f"  - {{file: m{n:02}.csv, model: soak-{n:02}}}" for n in range(MODELS)]
        text = "\n".join(["name: soak", "model: soak", "prompts:", *entries])
        (self.folder / MANIFEST).write_text(text, "utf-8")
        self.write_rows(0)

    def write_rows(self, version: int) -> None:
        """The jobs, one body each; every version has other metadata and another order."""
        jobs = list(range(self.asked.jobs))
        if version:
            self.rng.shuffle(jobs)
        rows: list[list[tuple[str, int | str, str]]] = [[] for _ in range(MODELS)]
        for n in jobs:
            dice = Random(f"{self.asked.seed}:{n}")
            marks = [marker for marker, share in MARKERS if dice.random() < share]
            images = 2 if dice.random() < 0.05 else ""
            prompt = " ".join((f"animal {n:07}", *marks))
            rows[n % MODELS].append((prompt, images, f"version {version}"))
        for n, lines in enumerate(rows):
            with (self.folder / f"m{n:02}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("prompt", "params.num_images", "note"))
                writer.writerows(lines)

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        """The command, as a process; what it says goes to one log."""
        with (self.folder / "runs.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "runner", "run", MANIFEST, "--quiet"],
                cwd=self.folder,
                env={**environment(), "SEGMIND_API_KEY": KEY, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def live_until_killed(self, number: int) -> None:
        """One life; it is killed, unless it was done before."""
        way, wait_s, environ = self._fate(number)
        process, born = self.start(**environ), time.monotonic()
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            way = "at work" if way == "at a crash point" else way
            process.kill()
        status = process.wait()
        self.worked_s += max(time.monotonic() - born - START_S, 0.0)
        if status == -signal.SIGKILL:
            self.kills[way] += 1
        else:
            self.exits[status] += 1

    def _fate(self, number: int) -> tuple[str, float, dict[str, str]]:
        dice, work_s = self.rng.random(), self.rng.uniform(*WORK_S) * self.stretch
        if number < 3 or dice < EARLY:
            return "starting", self.rng.uniform(0.0, START_S), {}
        if dice < EARLY + REPLANNED:
            self.write_rows(number)
            return "planning", START_S + self.rng.uniform(0.0, PLANNING_S), {}
        if dice < EARLY + REPLANNED + AT_POINTS:
            crash = f"{self.rng.choice(POINTS)}:{self.rng.randint(1, 12)}"
            return "at a crash point", START_S + WORK_S[1], {"RUNNER_CRASH_AT": crash}
        return "at work", START_S + work_s, {}

    def adapt(self) -> None:
        """Makes lives longer or shorter, so that the jobs last as long as the kills."""
        # At least one, so that lives grow longer where the machine is too slow for any work.
        rate = max(self.accepted(), 1) / max(self.worked_s, 1.0)
        kills_left = max(self.asked.kills - self.kills.total(), 1)
        # Some are left over, so that the last kill finds work under way.
        jobs_left = max(self.asked.jobs - self.accepted() - max(CONCURRENCY, 20), 0)
        usual_s = (1 - EARLY) * sum(WORK_S) / 2
        stretch = jobs_left / rate / kills_left / usual_s
        self.stretch = min(max(stretch, STRETCH[0]), STRETCH[1])

    def accepted(self) -> int:
        """How many POSTs the server has accepted so far, read from its journal."""
        with (self.folder / "server.jsonl").open("rb") as file:
            file.seek(self._read_bytes)
            fresh = file.read()
        self._read_bytes += len(fresh)
        self._accepted += fresh.count(b"\n")
        return self._accepted

    def finish(self) -> list[int]:
        """Lets it run in peace until all is settled; returns the exit statuses."""
        statuses: list[int] = []
        while len(statuses) < CALM_RUNS and statuses[-1:] != [0] and statuses[-2:] != [1, 1]:
            process = self.start()
            try:
                statuses.append(process.wait(CALM_RUN_S))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                statuses.append(-signal.SIGKILL)
        return statuses


def environment() -> dict[str, str]:
    """The environment without what would change the program's ways, for the code beside this file."""
    strange = ("RUNNER_", "SEGMIND_", "COVERAGE_PROCESS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def soak(asked: argparse.Namespace, folder: Path) -> Audit:
    """Kills and finishes the command, then audits what it left."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--serve", "--keep", str(folder), *sys.argv[1:]]
    with (folder / "server.log").open("ab") as log:
        api = subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        url = api.stdout.readline().strip() if api.stdout else ""
        work = Soak(asked, folder, Random(asked.seed))
        work.prepare(url)
        lives = 0
        while work.kills.total() < asked.kills and lives < asked.kills * 1.1 + 10:
            work.live_until_killed(lives)
            lives += 1
            work.adapt()
            if lives % 25 == 0:
                elapsed_s = time.monotonic() - began
                told = f"{elapsed_s:7.0f} s  {work.kills.total()} kills  {work.accepted()} accepted"
                click.echo(f"{told}  stretch {work.stretch:.2f}", err=True)
        accepted_by_the_last_kill = work.accepted()
        statuses = work.finish()
        found = audit(folder, url, asked.history)
    finally:
        api.communicate("")
    made = ", ".join(f"{count} {way}" for way, count in sorted(work.kills.items()))
    found.tell("kills", f"{work.kills.total()} ({made})", work.kills.total() < asked.kills)
    ended = sum(work.exits.values())
    odd = [status for status in work.exits if status not in (0, 1, 3)]
    found.tell("lives that ended before their kill", f"{ended} {dict(work.exits) or ''}", bool(odd))
    too_early = accepted_by_the_last_kill < asked.jobs / 2
    found.tell("accepted by the last kill", accepted_by_the_last_kill, too_early)
    wanted = 0 if asked.history == "on" else 1
    found.tell("exit statuses of the calm runs", statuses, statuses[-1] != wanted)
    found.tell("duration", f"{time.monotonic() - began:.0f} s")
    return found


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--lost-answers", type=float, default=0.05, help="accepted, never answered")
    parser.add_argument("--error-rate", type=float, default=0.0, help="answered 500, 502 or 503")
    parser.add_argument("--history", choices=("on", "down"), default="on")
    parser.add_argument("--history-delay", type=float, default=0.0, help="seconds a row is late")
    parser.add_argument("--doubt-wait", default="4s", help="run.doubt_wait of the config")
    parser.add_argument("--seconds", type=float, help="how long the jobs last; default: 2 a kill")
    parser.add_argument("--rpm", type=int, help="the server's rate limit; default: none")
    parser.add_argument("--history-rpm", type=int, help="its history's; default: none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.seconds = asked.seconds or asked.kills * 2.0
    return asked


def main() -> int:
    """Exit status 1 where anything was violated."""
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = (asked.keep or Path(temporary)).resolve()
        if asked.serve:
            asyncio.run(serve(asked, folder))
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "runner.db").exists():
            click.echo(f"{folder} holds a ledger already; name a new folder", err=True)
            return 2
        found = soak(asked, folder)
        report = found.table(sys.argv[1:])
        click.echo(report)
        (folder / "report.txt").write_text(report + "\n", "utf-8")
    return int(found.violated)


__all__: list[Any] = ["Soak", "main"]

if __name__ == "__main__":
    sys.exit(main())
