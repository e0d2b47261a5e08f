"""The clients of the overhead benchmark, one process each: `python -m benchmarks.overhead_clients JOB_JSON`.

Each does the same jobs against the same server and leaves every picture whole on disk; the process
prints one JSON object. Imports are over before the clocks start.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

KEY = "SG_0123456789abcdef"
MODEL = "imagen"
THREADS = 64


@dataclass(frozen=True, slots=True)
class Task:
    """What a client is to do: `jobs` prompts at `origin`, at most `at_once` under way, into `folder`."""

    client: str
    origin: str
    jobs: int
    at_once: int
    folder: str


def prompt(number: int) -> str:
    """The prompt of the `number`-th job."""
    return f"a red fox in fresh snow, picture {number}"


class Plain:
    """Writes files and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def note(self, number: int, state: str, text: str = "") -> None:
        """Nothing is remembered."""

    async def keep(self, number: int, content: bytes) -> None:
        """Writes one picture."""
        (self._folder / f"{number}.png").write_bytes(content)


class Durable:
    """What is promised of a job, by hand and in the fewest steps: on disk before anything depends on it.

    Commits are shared by all that come meanwhile, files are synced and named when whole. Nothing is
    retried, resumed, asked, checked, counted or told.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._disk, self._thread = ThreadPoolExecutor(8), ThreadPoolExecutor(1)
        self._waiting: deque[tuple[tuple[int, str, str], asyncio.Future[None]]] = deque()
        self._is_sent = False
        self._database = sqlite3.connect(
            folder / "jobs.db", isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE jobs (n INTEGER PRIMARY KEY, state TEXT, text TEXT)")

    async def note(self, number: int, state: str, text: str = "") -> None:
        """Remembers the state of a job, with the next commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(((number, state, text), future))
        if not self._is_sent:
            self._is_sent = True
            self._thread.submit(self._commit, loop)
        await future

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        # Cleared before the queue is read: what comes later is sent for anew.
        self._is_sent = False
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._database.execute("BEGIN")
        rows = [row for row, _ in batch]
        self._database.executemany("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")
        loop.call_soon_threadsafe(lambda: [future.set_result(None) for _, future in batch])

    async def keep(self, number: int, content: bytes) -> None:
        """Writes, syncs, hashes and names one picture."""
        await asyncio.get_running_loop().run_in_executor(self._disk, self._keep, number, content)

    def _keep(self, number: int, content: bytes) -> str:
        part = f"{self._folder}/{number}.part"
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(file, content)
        os.fsync(file)
        os.close(file)
        os.rename(part, f"{self._folder}/{number}.png")  # noqa: PTH104  pathlib takes its time
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return hashlib.sha256(content).hexdigest()


def _loop(task: Task, store: Plain | Durable) -> Callable[[], None]:
    """A loop over aiohttp: submit, ask for the result until it is there, fetch, keep."""
    import aiohttp

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        await store.note(number, "submitting")
        async with session.post(
            f"{task.origin}/v2/{MODEL}", json={"prompt": prompt(number), "seed": number}
        ) as answer:
            request_id = (await answer.json())["request_id"]
        await store.note(number, "submitted", request_id)
        while True:
            async with session.get(f"{task.origin}/v2/requests/{request_id}") as answer:
                result = await answer.json()
            if result["status"] == "COMPLETED":
                break
            await asyncio.sleep(0.25)
        await store.note(number, "completed", result["output"])
        async with session.get(result["output"]) as answer:
            content = await answer.read()
        await store.keep(number, content)
        await store.note(number, "saved")

    async def work() -> None:
        numbers = iter(range(task.jobs))
        headers = {"x-api-key": KEY}
        connector = aiohttp.TCPConnector(limit=task.at_once)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

            async def worker() -> None:
                for number in numbers:
                    await one(session, number)

            async with asyncio.TaskGroup() as group:
                for _ in range(task.at_once):
                    group.create_task(worker())

    return lambda: asyncio.run(work())


def bare(task: Task) -> Callable[[], None]:
    """The loop, with files that are just written."""
    return _loop(task, Plain(Path(task.folder)))


def durable(task: Task) -> Callable[[], None]:
    """The loop, with everything on disk before anything depends on it."""
    return _loop(task, Durable(Path(task.folder)))


def official(task: Task) -> Callable[[], None]:
    """The official client in a pool of threads: `run`, then the picture with the httpx it brings."""
    import httpx
    from segmind import SegmindClient

    folder = Path(task.folder)

    # One for each thread: they share no connection, which suits httpx best, and are made beforehand.
    made: Queue[tuple[SegmindClient, httpx.Client]] = Queue()
    for _ in range(THREADS):
        client = SegmindClient(api_key=KEY, base_url=f"{task.origin}/v1", timeout=120.0)
        made.put((client, httpx.Client(timeout=120.0)))
    own = threading.local()

    def one(number: int) -> None:
        client, media = own.clients
        result = client.run(MODEL, prompt=prompt(number), seed=number)
        answer = media.get(result["output"])
        answer.raise_for_status()
        (folder / f"{number}.png").write_bytes(answer.content)

    def work() -> None:
        def begin() -> None:
            own.clients = made.get()

        with ThreadPoolExecutor(THREADS, initializer=begin) as pool:
            for _ in pool.map(one, range(task.jobs)):
                pass

    return work


def ours(task: Task) -> Callable[[], None]:
    """`runner run`, all of it: the manifest planned, the ledger durable, every file synced and checked."""
    import PIL.Image

    import runner.assembly.working
    import runner.cli.running  # noqa: F401  so that both are there before the clock starts
    from runner.cli.app import app

    PIL.Image.init()
    folder = Path(task.folder)
    lines = (json.dumps({"prompt": prompt(n), "params": {"seed": n}}) for n in range(task.jobs))
    (folder / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "manifest.yaml").write_text(
        f"name: overhead\nmodel: {MODEL}\nprompts:\n  - file: prompts.jsonl\noutput: '{{index}}.{{ext}}'\n",
        encoding="utf-8",
    )
    (folder / "config.yaml").write_text(
        f"api: {{base_url: '{task.origin}', history_url: '{task.origin}', key: {KEY}, rpm: 6000000}}\n"
        f"run: {{concurrency: {task.at_once}, gallery: false}}\nledger: runner.db\noutput: pictures\n",
        encoding="utf-8",
    )
    arguments = ["run", str(folder / "manifest.yaml"), "-c", str(folder / "config.yaml"), "--quiet"]

    def work() -> None:
        if status := app.main(arguments, standalone_mode=False):
            raise SystemExit(f"runner ended with {status}")

    return work


CLIENTS = {"bare": bare, "durable": durable, "official": official, "runner": ours}


def main(arguments: list[str]) -> int:
    """Does one task and prints what it took."""
    task = Task(**json.loads(arguments[0]))
    work = CLIENTS[task.client](task)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    value: dict[str, Any] = {
        "seconds": seconds,
        "user_s": after.ru_utime - before.ru_utime,
        "system_s": after.ru_stime - before.ru_stime,
        "peak_mb": after.ru_maxrss / 1024,
        "files": sum(1 for _ in Path(task.folder).rglob("*.png")),
    }
    print(json.dumps(value), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
