"""The audit of a soak test: the server's book, the ledger and the files, held against each other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import sqlite3
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

KEY = "SG_0fed1cba2987a654"
# So many files are also compared with what the server has.
SAMPLE = 500


@dataclass
class Audit:
    """What was found, line by line, and which lines are violations."""

    lines: list[tuple[str, str, bool]] = field(default_factory=list)

    def tell(self, name: str, value: object, violated: bool = False) -> None:
        """A line of the report."""
        self.lines.append((name, str(value), violated))

    def none(self, name: str, found: Iterable[Any]) -> None:
        """A line about what must not be there; the first three are named."""
        all_found = list(found)
        shown = f"{len(all_found)}  {all_found[:3]}" if all_found else "0"
        self.tell(name, shown, bool(all_found))

    @property
    def violated(self) -> bool:
        """Whether anything is not as it must be."""
        return any(violated for _, _, violated in self.lines)

    def table(self, arguments: list[str]) -> str:
        """The report."""
        width = max(len(name) for name, _, _ in self.lines)
        head = f"python tests/soak.py {shlex.join(arguments)}"
        rows = [
            f"{'!!' if violated else '  '} {name:<{width}}  {value}"
            for name, value, violated in self.lines
        ]
        return "\n".join([head, "", *rows, "", "VIOLATED" if self.violated else "all holds"])


def audit(folder: Path, url: str, history: str) -> Audit:
    """Looks at everything that a run has left in `folder`."""
    found = Audit()
    accepted = [json.loads(line) for line in _get(url, "/sandbox/accepted").splitlines()]
    stats = json.loads(_get(url, "/sandbox/stats"))
    with contextlib.closing(sqlite3.connect(folder / "runner.db")) as database:
        found.none("ledger integrity", _integrity(database))
        jobs = _jobs(database)
        _money(found, database, accepted)
        _books(found, jobs, accepted, history)
        _doubts(found, database)
    _files(found, folder / "output", jobs, url)
    found.none("key found in", _with_key(folder))
    found.tell("key sent to the media host", stats["key_leaks"], stats["key_leaks"] > 0)
    log = (folder / "runs.log").read_text("utf-8", "replace")
    found.none("tracebacks in the log", [1] * log.count("Traceback"))
    found.tell("requests", {way: sum(codes.values()) for way, codes in stats["requests"].items()})
    return found


def _get(url: str, path: str) -> bytes:
    for _ in range(10):
        # The server's error rate is for everybody.
        try:
            with urllib.request.urlopen(url + path, timeout=120) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError:
            continue
    raise OSError(f"no answer to {path}")


def _integrity(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("PRAGMA integrity_check").fetchall()
    return [row[0] for row in rows if row[0] != "ok"]


def _jobs(database: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """All jobs by what they ask for, with their files."""
    columns = ("key", "state", "model", "params", "request_id", "posts", "wanted")
    query = "SELECT job_key, state, model, params, request_id, posts, wanted FROM jobs"
    jobs = [dict(zip(columns, row, strict=True)) for row in database.execute(query)]
    files: dict[int, list[tuple[Any, ...]]] = {}
    query = "SELECT job_key, n, path, size_bytes, sha256, url FROM files ORDER BY job_key, n"
    for key, *file in database.execute(query):
        files.setdefault(key, []).append(tuple(file))
    for job in jobs:
        job["params"] = json.loads(job["params"])
        job["files"] = files.get(job["key"], [])
    return {_body(job["model"], job["params"]): job for job in jobs}


def _body(model: str, params: dict[str, Any]) -> str:
    return json.dumps([model, params], sort_keys=True)


def _books(
    found: Audit, jobs: dict[str, dict[str, Any]], accepted: list[dict[str, Any]], history: str
) -> None:
    """The ledger against the server's book."""
    times = Counter(_body(row["model"], row["body"]) for row in accepted)
    server = {_body(row["model"], row["body"]): row for row in accepted}
    states = Counter(job["state"] for job in jobs.values())
    allowed = {"saved"} if history == "on" else {"saved", "in_doubt"}
    found.tell("jobs", len(jobs))
    found.tell("accepted POSTs", len(accepted))
    found.none("DOUBLE PAYMENTS", [body for body, count in times.items() if count > 1])
    held = {"in_doubt"} if history != "on" else set()
    found.none(
        "LOST RESULTS (completed there, not saved here)",
        [
            (row["request_id"], jobs[body]["state"] if body in jobs else None)
            for body, row in server.items()
            if row["state"] == "COMPLETED"
            and (body not in jobs or jobs[body]["state"] not in {"saved", *held})
        ],
    )
    found.tell("states", dict(states), not set(states) <= allowed)
    doubtful = [body for body, job in jobs.items() if job["state"] == "in_doubt"]
    there = sum(body in server for body in doubtful)
    words = f"{len(doubtful)} ({there} accepted there, {len(doubtful) - there} not)"
    found.tell("in doubt", words, bool(doubtful) and history == "on")
    found.none(
        "request ids that are not the server's",
        [
            (job["request_id"], body)
            for body, job in jobs.items()
            if (job["request_id"] is not None or job["state"] == "saved")
            and job["request_id"] != server.get(body, {}).get("request_id")
        ],
    )
    found.none(
        "jobs that lost their place in the manifest",
        [job["key"] for job in jobs.values() if not job["wanted"]],
    )


def _money(found: Audit, database: sqlite3.Connection, accepted: list[dict[str, Any]]) -> None:
    spent = database.execute("SELECT coalesce(sum(cost), 0) FROM jobs").fetchone()[0]
    unsaved = "SELECT count(*) FROM jobs WHERE state <> 'saved'"
    charged = sum(row["cost"] for row in accepted)
    # What is in doubt has no cost in the ledger.
    differs = not database.execute(unsaved).fetchone()[0] and abs(spent - charged) > 0.005
    found.tell("spent by the ledger, by the server", f"${spent:.2f}, ${charged:.2f}", differs)


def _doubts(found: Audit, database: sqlite3.Connection) -> None:
    """How often which way out of doubt was taken."""
    ways = {
        "interrupted by a kill": "action = 'in_doubt' AND detail LIKE 'the run ended between%'",
        "answer lost": "action = 'in_doubt' AND detail NOT LIKE 'the run ended between%'",
        "found in the history": "action = 'submitted' AND detail LIKE 'the request history has%'",
        "never accepted, sent again": "action = 'pending' AND detail LIKE '%never accepted'",
        "saved a second time": "action = 'saved' AND EXISTS (SELECT 1 FROM attempts b WHERE"
        " b.job_key = a.job_key AND b.action = 'saved' AND b.attempt_key < a.attempt_key)",
    }
    for name, condition in ways.items():
        query = f"SELECT count(*) FROM attempts a WHERE {condition}"  # noqa: S608
        count = database.execute(query).fetchone()[0]
        found.tell(name, count, name == "saved a second time" and count > 0)


def _files(found: Audit, output: Path, jobs: dict[str, dict[str, Any]], url: str) -> None:
    """The files on disk against the ledger, and some of them against the server's."""
    recorded = [
        (job, *file) for job in jobs.values() if job["state"] == "saved" for file in job["files"]
    ]
    wrong: list[tuple[str, str]] = []
    for place, (job, _, path, size_bytes, sha256, media) in enumerate(recorded):
        token = hashlib.sha256(f"media of {job['request_id']}".encode()).hexdigest()[:48]
        if f"/media/{token}/" not in (media or ""):
            wrong.append((path, "is another request's"))
            continue
        fault = _fault(output / path, size_bytes, sha256)
        if not fault and place % max(len(recorded) // SAMPLE, 1) == 0:
            same = hashlib.sha256(_get(url, media.removeprefix(url))).hexdigest() == sha256
            fault = "" if same else "is not what the server has"
        if fault:
            wrong.append((path, fault))
    found.tell("files", len(recorded))
    found.none("files missing, undecodable, of another size, sha256 or job", wrong)
    short = [
        job["key"]
        for job in jobs.values()
        if job["state"] == "saved" and len(job["files"]) != (job["params"].get("num_images") or 1)
    ]
    found.none("saved jobs with too few or too many files", short)
    names = Counter(path for _, _, path, *_ in recorded)
    found.none("file names used twice", [path for path, count in names.items() if count > 1])
    there = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    there = {
        name
        for name in there
        if not name.startswith((".gallery/", "gallery.html", "metadata.jsonl"))
    }
    found.none("orphaned .part files", sorted(p for p in there if p.endswith(".part")))
    strange = sorted(p for p in there - set(names) if not p.endswith(".part"))
    found.none("files that no job has", strange)


def _fault(path: Path, size_bytes: int, sha256: str) -> str:
    try:
        content = path.read_bytes()
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return repr(error)
    if len(content) != size_bytes:
        return "has another size"
    return "" if hashlib.sha256(content).hexdigest() == sha256 else "has another sha256"


def _with_key(folder: Path) -> list[str]:
    key = KEY.encode()
    return [str(p) for p in folder.rglob("*") if p.is_file() and key in p.read_bytes()]
