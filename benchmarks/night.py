"""A night on real sockets, scaled to minutes: runner, the official SDK and a plain loop, side by side.

Each has an account of its own with the same rate, served by a process of its own, and the same jobs. The
work is what the rate allows in the chosen minutes at two requests a job, the least there can be. When the
runner that knows its rate has saved the last picture, all are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import keep, table
from benchmarks.service import KEY, Service, requests_of

ROOT = Path(__file__).parent.parent
LEAST_REQUESTS = 2
GIVEN, LEARNED, SDK, LOOP = "runner, rate given", "runner, rate learned", "SDK, 64 threads", "loop"


@dataclass(frozen=True, slots=True)
class Count:
    """How one client stands: pictures saved, requests sent, of them 429, sent while told to wait."""

    name: str
    seconds: float
    saved: int
    requests: int
    refused: int
    during_hold: int


@dataclass(frozen=True, slots=True)
class Night:
    """What is asked of every client."""

    rpm: int
    jobs: int
    latency: str
    sliding: bool


def main(arguments: list[str]) -> int:
    """Plays the nights and prints what came of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks night", description=__doc__)
    parser.add_argument("--rpm", type=int, default=300)
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="how long the rate needs at least"
    )
    parser.add_argument("--latency", default="lognormal:12s,0.4")
    parser.add_argument("--sliding", action="store_true", help="the server's window slides")
    parser.add_argument("--nights", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short night")
    asked = parser.parse_args(arguments)
    minutes, nights = (1.0, 1) if asked.quick else (asked.minutes, asked.nights)
    jobs = int(asked.rpm * minutes / LEAST_REQUESTS)
    night = Night(asked.rpm, jobs, asked.latency, asked.sliding)
    played = [play(night) for _ in range(nights)]
    print(
        f"{jobs:,} jobs at {asked.rpm} requests a minute ({'sliding' if asked.sliding else 'fixed'} window),"
    )
    print(f"latency {asked.latency}, medians of {nights}:\n")
    print(table(*rows(night, played)))
    path = keep(
        "night", {"night": asdict(night), "counts": [[asdict(c) for c in n] for n in played]}
    )
    print(f"\nraw figures: {path}")
    return 0


def play(night: Night) -> list[Count]:
    """One night: all clients at the same time, each with its own account."""
    folder = Path(tempfile.mkdtemp(prefix="night-"))
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(each) for each in _clients(night, folder)]
            given = clients[0]
            counts: dict[str, Count] = {}
            while not given.has_ended:
                time.sleep(0.05)
            for client in clients:
                # Whoever needs longer is counted when the first is ready, and its end is waited for
                # only where it is of interest itself.
                if client.name != LEARNED:
                    counts[client.name] = client.count()
            learned = next(client for client in clients if client.name == LEARNED)
            while not learned.has_ended:
                time.sleep(0.05)
            counts[LEARNED] = learned.count()
            return [counts[client.name] for client in clients]
    finally:
        shutil.rmtree(folder)


class Client:
    """A process that renders into a folder, with its own account."""

    def __init__(self, name: str, service: Service, command: list[str], folder: Path) -> None:
        self.name = name
        self._service = service
        self._folder = folder
        self._started = time.monotonic()
        self._ended: float | None = None
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, cwd=folder, env=environ
        )

    @property
    def has_ended(self) -> bool:
        """Whether the process has done all its work."""
        if self._ended is None and self._process.poll() is not None:
            self._ended = time.monotonic()
            if self._process.returncode:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}")
        return self._ended is not None

    def count(self) -> Count:
        """How it stands now."""
        stats = self._service.stats()
        total, refused = requests_of(stats)
        saved = sum(1 for _ in (self._folder / "pictures").rglob("*.png"))
        seconds = (self._ended or time.monotonic()) - self._started
        return Count(self.name, seconds, saved, total, refused, stats["during_hold"])

    def stop(self) -> None:
        """Ends it, wherever it is."""
        self._process.kill()
        self._process.wait()


def _clients(night: Night, folder: Path) -> Iterator[Any]:
    for name in (GIVEN, LEARNED, SDK, LOOP):
        yield _client(name, night, folder / name.replace(" ", "-").replace(",", ""))


@contextmanager
def _client(name: str, night: Night, folder: Path) -> Iterator[Client]:
    folder.mkdir(parents=True)
    options = ["--latency", night.latency, "--rpm", str(night.rpm)]
    with Service(*options, *["--sliding"] * night.sliding) as service:
        client = Client(name, service, _command(name, night, folder, service.url), folder)
        try:
            yield client
        finally:
            client.stop()


def _command(name: str, night: Night, folder: Path, url: str) -> list[str]:
    if name in (SDK, LOOP):
        client = "sdk" if name == SDK else "loop"
        pictures = str(folder / "pictures")
        module = [sys.executable, "-m", "benchmarks.clients"]
        return [*module, client, url, str(night.jobs), pictures]
    api = {"base_url": url, "history_url": url, "key": KEY}
    if name == GIVEN:
        api["rpm"] = str(night.rpm)
    config = {"api": api, "run": {"concurrency": 4 * night.rpm}, "output": "pictures"}
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps(config), "utf-8")
    prompts = [{"prompt": f"picture {number}"} for number in range(night.jobs)]
    manifest = {"name": "night", "model": "imagen", "prompts": prompts}
    (folder / "night.yaml").write_text(json.dumps(manifest), "utf-8")
    return [sys.executable, "-m", "runner", "run", "night.yaml", "--quiet"]


def rows(night: Night, played: list[list[Count]]) -> tuple[list[str], list[list[str]]]:
    """The table: medians over the nights."""
    bound_s = LEAST_REQUESTS * night.jobs * 60.0 / night.rpm
    given = [counts[0] for counts in played]
    lines = []
    for position in range(len(played[0])):
        own = [counts[position] for counts in played]
        # Of the bound: jobs a second against what the rate allows at two requests a job.
        share = statistics.median(c.saved / c.seconds * bound_s / night.jobs for c in own)
        jobs = statistics.median(g.saved / max(c.saved, 1) for g, c in zip(given, own, strict=True))
        sent = statistics.median(g.requests / c.requests for g, c in zip(given, own, strict=True))
        lines.append(
            [
                own[0].name,
                f"{statistics.median(c.saved for c in own):,.0f}",
                f"{statistics.median(c.seconds for c in own):.0f} s",
                f"{share:.1%}",
                f"{statistics.median(c.requests / max(c.saved, 1) for c in own):.2f}",
                f"{statistics.median(c.refused / c.requests for c in own):.2%}",
                f"{statistics.median(c.during_hold for c in own):.0f}",
                f"{jobs:.2f}",
                f"{sent:.3f}",
            ]
        )
    heads = ["client", "saved", "time", "of the bound", "requests a job", "429s", "sent in a hold"]
    return [*heads, "given: × its jobs", "given: × its requests"], lines
