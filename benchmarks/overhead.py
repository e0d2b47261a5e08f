"""What the machine does for a job when the API takes no time: jobs per second and CPU per job.

Four clients against one zero-latency server in a process of its own, round by round, so that whatever
else the machine does meets all of them; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.overhead_clients import THREADS, Task
from benchmarks.results import keep, table

WHAT = {
    "bare": "aiohttp loop: submit, GET the result, GET the picture, write it; no ledger, no fsync, no check",
    "durable": "the same loop; four commits (synchronous=FULL), every picture hashed, fsynced, renamed",
    "official": "segmind SDK in 64 threads: run() (submit, status, result), GET the picture, write it",
    "runner": "runner run: planned, synchronous=FULL, every picture checked, hashed, fsynced, renamed",
}
AT_ONCE = 256


@contextmanager
def server(picture_px: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its origin."""
    command = [sys.executable, "-m", "benchmarks.server", str(picture_px)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.communicate("", timeout=10)


def cpu_s(process: subprocess.Popen[str]) -> float:
    """The CPU seconds that a running process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def measure(client: str, origin: str, jobs: int, folder: str) -> dict[str, Any]:
    """Runs one client in a process of its own."""
    task = Task(client, origin, jobs, AT_ONCE, folder)
    command = [sys.executable, "-m", "benchmarks.overhead_clients", json.dumps(asdict(task))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{client} failed:\n{done.stdout}{done.stderr}")
    value: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    if value["files"] != jobs:
        raise SystemExit(f"{client} left {value['files']} pictures of {jobs}")
    return value


def rounds(clients: list[str], jobs: int, count: int, picture_px: int) -> list[dict[str, Any]]:
    """Every client in turn, `count` times; a server of its own for each."""
    found = []
    # All is removed at the end: ext4 is slow to make files where many were removed just now.
    with tempfile.TemporaryDirectory() as top:
        for number, client in product(range(count), clients):
            folder = Path(top, f"{number}-{client}")
            folder.mkdir()
            with server(picture_px) as (process, origin):
                value = measure(client, origin, jobs, str(folder))
                value |= {"client": client, "round": number, "server_s": cpu_s(process)}
            found.append(value)
            rate = jobs / value["seconds"]
            print(f"  round {number + 1}, {client}: {rate:,.0f} jobs/s", file=sys.stderr)
    return found


def figures(found: list[dict[str, Any]], client: str, jobs: int) -> dict[str, float]:
    """Medians of one client's rounds."""
    own = [value for value in found if value["client"] == client]

    def middle(*names: str) -> float:
        return float(median(sum(value[name] for name in names) for value in own))

    return {
        "jobs_s": jobs / middle("seconds"),
        "cpu_ms": middle("user_s", "system_s") / jobs * 1000,
        "server_share": middle("server_s") / middle("seconds"),
        "peak_mb": middle("peak_mb"),
    }


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one round")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--picture-px", type=int, default=128)
    parser.add_argument("--clients", nargs="*", choices=list(WHAT), default=list(WHAT))
    options = parser.parse_args(arguments)
    jobs = options.jobs or (1000 if options.quick else 6000)
    count = options.rounds or (1 if options.quick else 3)
    clients = list(options.clients)
    found = rounds(clients, jobs, count, options.picture_px)
    medians = {client: figures(found, client, jobs) for client in clients}
    bare = medians.get("bare", medians[clients[0]])
    rows = []
    for client in clients:
        own = medians[client]
        rows.append(
            [
                client,
                f"{own['jobs_s']:,.0f}",
                f"{own['jobs_s'] / bare['jobs_s']:.2f}",
                f"{own['cpu_ms']:.2f}",
                f"{own['cpu_ms'] / bare['cpu_ms']:.2f}",
                f"{own['server_share']:.0%}",
                f"{own['peak_mb']:.0f}",
            ]
        )
    header = ["client", "jobs/s", "x bare", "CPU ms/job", "x bare", "server busy", "peak MB"]
    print(f"{jobs:,} jobs, medians of {count}, {AT_ONCE} at once ({THREADS} threads)")
    print(table(header, rows))
    for client in clients:
        print(f"{client}: {WHAT[client]}")
    print(f"raw: {keep('overhead', {'jobs': jobs, 'rounds': found})}")
    return 0
