"""How plan, run, resume, status and a run with nothing to do grow with the number of jobs.

Each command is a process of its own; its peak memory is what the system counted. That all but the last
jobs are saved is written into the ledger by statements, as a run would have left it: a million real jobs
would take hours and show nothing else. Their files are on disk, one each, because a run looks for them.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.overhead import server
from benchmarks.overhead_clients import KEY, MODEL, prompt
from benchmarks.results import keep, table
from runner.ledger.queries import PUT_FILE

LEFT = 2000
A_DAY_S = 86400.0
FILL = """
UPDATE jobs SET state = 'saved', posts = 1, submitted_at = :at, deadline = :at + 3600,
  completed_at = :at + 12, cost = 0.04, request_id = lower(hex(randomblob(16))), files = 1
WHERE job_key <= :last"""
RESULTS = """
INSERT INTO results SELECT job_key, json_object('status', 'COMPLETED', 'request_id', request_id,
  'output', 'https://images.segmind.com/' || request_id || '.png',
  'images', json_array(json_object('url', 'https://images.segmind.com/' || request_id || '.png',
    'content_type', 'image/png', 'file_name', request_id || '.png', 'file_size', 1)),
  'metrics', json_object('inference_time', 8.25, 'queue_time', 3.5, 'total_time', 11.75,
    'cost', 0.04, 'remaining_credits', 1234.5), 'seed', 7)
FROM jobs WHERE job_key <= :last"""
STORY = """
INSERT INTO attempts (job_key, at, action, status, detail, request_id)
SELECT job_key, {at}, '{action}', {status}, {detail}, {request_id} FROM jobs WHERE job_key <= :last"""
STEPS = (
    {"at": "submitted_at", "action": "submitting", "status": "NULL"},
    {"at": "submitted_at", "action": "submitted", "status": "200", "request_id": "request_id"},
    {"at": "completed_at", "action": "completed", "status": "200"},
    {"at": "completed_at + 1", "action": "saved", "status": "NULL", "detail": "output"},
)


def timed(command: list[str], folder: Path, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Runs a command; its seconds, CPU and peak memory."""
    started = time.time()
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in allowed:
        raise SystemExit(
            f"{command} ended with {process.returncode}: {(folder / 'out.txt').read_text()}"
        )
    cpu = usage.ru_utime + usage.ru_stime
    say(f"  {time.time() - started:.1f} s, {usage.ru_maxrss / 1024:.0f} MB")
    return {
        "started": started,
        "seconds": time.time() - started,
        "cpu_s": cpu,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def prepare(folder: Path, origin: str, jobs: int) -> None:
    """A manifest of so many jobs and a config that leads to the server."""
    with (folder / "prompts.jsonl").open("w") as file:
        for number in range(jobs):
            file.write(json.dumps({"prompt": prompt(number), "params": {"seed": number}}) + "\n")
    (folder / "manifest.yaml").write_text(
        f"name: scale\nmodel: {MODEL}\nprompts:\n  - file: prompts.jsonl\n"
        "output: 'p/{index:07}.{ext}'\n"
    )
    (folder / "config.yaml").write_text(
        f"api: {{base_url: '{origin}', history_url: '{origin}', key: {KEY}, rpm: 1000000}}\n"
        "run: {concurrency: 256}\nledger: runner.db\noutput: pictures\n"
    )


def fill(folder: Path, jobs: int) -> None:
    """All but the last jobs become saved, with everything a run leaves behind."""
    last = {"last": jobs - LEFT, "at": time.time() - 30 * A_DAY_S}
    pictures = folder / "pictures" / "p"
    pictures.mkdir(parents=True, exist_ok=True)
    for number in range(jobs - LEFT):
        os.close(os.open(pictures / f"{number:07}.png", os.O_CREAT | os.O_WRONLY))
        os.truncate(pictures / f"{number:07}.png", 1)
    database = sqlite3.connect(folder / "runner.db", isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    database.execute(FILL, last)
    # Of the one job that was really done the same is left as of the others.
    for name in ("files", "results", "attempts"):
        database.execute(f"DELETE FROM {name}")
    database.execute(RESULTS, last)
    database.executemany(PUT_FILE, _files(jobs - LEFT))
    for step in STEPS:
        values = {"detail": "NULL", "request_id": "NULL", **step}
        database.execute(STORY.format(**values), last)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def _files(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "job": number + 1,
            "n": 0,
            "url": f"https://images.segmind.com/{number:032x}.png",
            "path": f"p/{number:07}.png",
            "size_bytes": 1,
            "sha256": os.urandom(32).hex(),
            "content_type": "image/png",
            "received_sha256": None,
        }


def size_bytes(folder: Path) -> int:
    """What the ledger takes on disk, without pages that are free for what comes next."""
    database = sqlite3.connect(folder / "runner.db")
    numbers = [
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    ]
    database.close()
    return int((numbers[0] - numbers[1]) * numbers[2])


def one(jobs: int) -> dict[str, Any]:
    """All figures of one size."""
    found: dict[str, Any] = {"jobs": jobs}
    with (
        tempfile.TemporaryDirectory() as name,
        server(16) as (_, origin),
    ):
        folder = Path(name)
        prepare(folder, origin, jobs)
        config = ["-c", str(folder / "config.yaml")]
        runner, manifest = [sys.executable, "-m", "runner"], str(folder / "manifest.yaml")
        say(f"{jobs:,}: plan")
        found["plan"] = timed([*runner, "plan", manifest, *config], folder)
        say(f"{jobs:,}: a first run, of 1 job")
        found["adopt"] = timed(
            [*runner, "run", manifest, *config, "--limit", "1", "-q"], folder, (3,)
        )
        found["planned_bytes"] = size_bytes(folder)
        say(f"{jobs:,}: filling the ledger")
        fill(folder, jobs)
        found["full_bytes"] = size_bytes(folder)
        say(f"{jobs:,}: status")
        statuses = [timed([*runner, "status", *config], folder) for _ in range(3)]
        found["status"] = sorted(statuses, key=lambda each: float(each["seconds"]))[1]
        say(f"{jobs:,}: resume, {LEFT:,} jobs left")
        found["resume"] = timed([*runner, "run", manifest, *config, "-q"], folder)
        first = first_post(origin, found["resume"]["started"])
        found["resume"]["first_submit_s"] = first
        say(f"{jobs:,}: a run with nothing to do")
        found["nothing"] = timed([*runner, "run", manifest, *config, "-q"], folder)
        found["compacted_bytes"] = size_bytes(folder)
    return found


def first_post(origin: str, since: float) -> float:
    """How long after `since` the server got the next submit, in seconds."""
    with urlopen(f"{origin}/posts") as answer:  # noqa: S310
        times = json.load(answer)
    return min(float(at) - since for at in times if at > since)


def say(text: str) -> None:
    """Says how far it is, for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 and 50,000 jobs only")
    parser.add_argument("--jobs", type=int, nargs="*")
    options = parser.parse_args(arguments)
    sizes = options.jobs or ([10_000, 50_000] if options.quick else [10_000, 100_000, 1_000_000])
    found = [one(size) for size in sizes]
    rows = []
    for label, show in SHOWN:
        rows.append([label, *(show(each) for each in found)])
    print(table(["jobs", *(f"{size:,}" for size in sizes)], rows))
    print(f"raw: {keep('scale', {'sizes': found})}")
    return 0


def _span(name: str) -> Any:
    return lambda each: f"{each[name]['seconds']:.1f} s, {each[name]['peak_mb']:.0f} MB"


def _bytes(name: str) -> Any:
    return lambda each: f"{each[name] / each['jobs']:,.0f}"


SHOWN: tuple[tuple[str, Any], ...] = (
    ("plan", _span("plan")),
    ("first run, 1 job sent", _span("adopt")),
    (
        "status",
        lambda each: f"{each['status']['seconds']:.2f} s, {each['status']['peak_mb']:.0f} MB",
    ),
    (f"resume with {LEFT:,} jobs left", _span("resume")),
    ("  its first submit after", lambda each: f"{each['resume']['first_submit_s']:.1f} s"),
    ("run with nothing to do", _span("nothing")),
    ("ledger bytes a job, planned", _bytes("planned_bytes")),
    ("ledger bytes a job, saved", _bytes("full_bytes")),
    ("ledger bytes a job, compacted", _bytes("compacted_bytes")),
)
