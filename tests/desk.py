"""Where end-to-end tests work: a folder with a config, a simulated API, the real command."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml
from PIL import Image

from runner.cli.app import main
from runner.sandbox import Fixed, Options, Sandbox

KEY = "SG_0123456789abcdef"
QUICK = Options(latency=Fixed(0.02), picture_px=64)
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status and what it said."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Service:
    """A sandbox in this process, on a thread and an event loop of its own."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.time) -> None:
        self.sandbox = Sandbox(options, clock=clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.sandbox.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.sandbox.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return self.sandbox.url

    @property
    def accepted(self) -> int:
        return len(self.sandbox.accepted)

    def accepted_for(self, text: str) -> int:
        """How many POSTs with `text` in their prompt were accepted."""
        bodies = [record.body for record in list(self.sandbox.accepted.values())]
        return sum(text in str(body.get("prompt")) for body in bodies)

    def count(self, route: str) -> int:
        """How many requests a route has answered, one way or another."""
        return sum(self.sandbox.stats()["requests"].get(route, {}).values())


class Process:
    """`runner sandbox` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "runner", "sandbox", "--port", "0", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare())
        line = self._process.stdout.readline()
        self.url = next(word.strip(";") for word in line.split() if word.startswith("http"))

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)

    def stats(self) -> dict[str, Any]:
        return json.loads(self._get("/sandbox/stats"))

    def accepted(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._get("/sandbox/accepted").splitlines()]

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310
            return answer.read().decode()


@dataclass
class Desk:
    """A folder in which the command is typed."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def configure(self, url: str, key: str | None = KEY, **run: Any) -> None:
        """Writes a config.yaml that leads to the simulated API."""
        # A rate that is not known is felt for, which takes its time.
        rpm = run.pop("rpm", 60_000)
        api = {"base_url": url, "history_url": url, "upload_url": url, "rpm": rpm}
        api |= {"timeout": run.pop("timeout", "5s"), "inputs": run.pop("inputs", "upload")}
        api["poll"] = run.pop("poll", "auto")
        if key is not None:
            api["key"] = key
        value = {"api": api, "run": {"download_attempts": 2, **run}}
        self.write("config.yaml", yaml.safe_dump(value))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def photo(self, name: str, color: str = "red", note: str = "") -> Path:
        """Writes a small picture; `note` stands behind it, where it changes the content alone."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(made, "PNG")
        path.write_bytes(made.getvalue() + note.encode())
        return path

    def manifest(self, *prompts: Any, name: str = "animals", **keys: Any) -> str:
        """Writes a manifest of these prompts; returns what to type for it."""
        value = {"model": "imagen", "output": "{id}.{ext}", **keys, "prompts": list(prompts)}
        self.write(f"{name}.yaml", yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
        return f"{name}.yaml"

    def run(self, *arguments: str) -> Finished:
        """The command in this process: quick, and warnings are errors."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            _environment(bare(self.environ)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _argv(arguments),
        ):
            try:
                main()
            except SystemExit as end:
                status = end.code
        assert isinstance(status, int)
        return Finished(status, out.getvalue(), err.getvalue())

    def start(
        self, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """The command as a process that goes on by itself."""
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=self.folder,
            env=bare({**self.environ, **(environ or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def process(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Finished:
        """The command as a process, to its end."""
        return finish(self.start(*arguments, environ=environ))

    def jobs(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """What `runner jobs --json` tells, by id."""
        told = self.run("jobs", "--json", *arguments)
        assert told.status == 0, told.words
        found = [json.loads(line) for line in told.out.splitlines()]
        return {job["id"]: job for job in found}

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the ledger says itself, or a change to it behind the program's back."""
        with contextlib.closing(sqlite3.connect(self.folder / "runner.db")) as database, database:
            return database.execute(query, values).fetchall()

    def files(self) -> list[str]:
        """Every file of the output folder but what tells of them, relative to it."""
        found = (path for path in self.output.rglob("*") if path.is_file())
        names = {path.relative_to(self.output).as_posix() for path in found}
        beside = {"metadata.jsonl", "gallery.html"}
        return sorted(name for name in names - beside if not name.startswith(".gallery/"))


def finish(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> Finished:
    """Waits for a process to end."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command did not end; it said:\n{out}\n{err}") from None
    return Finished(process.returncode, out, err)


def wait_until(what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    """Returns as soon as `what` is true."""
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def decode(path: Path) -> tuple[int, int]:
    """A picture's size, after all of it was decoded."""
    with Image.open(path) as image:
        image.load()
        return image.size


def bare(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would change the program's ways."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNNER_", "SEGMIND_", "COVERAGE_PROCESS"))
    }
    return {**kept, **(more or {})}


@contextmanager
def _environment(environ: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _argv(arguments: tuple[str, ...]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["runner", *arguments]
    try:
        yield
    finally:
        sys.argv = before
