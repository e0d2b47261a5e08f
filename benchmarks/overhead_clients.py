"""The clients of the overhead benchmark, one process each: `python -m benchmarks.overhead_clients JOB_JSON`.

Each does the same jobs against the same server and leaves every picture whole on disk; the process
prints one JSON object. Imports are over before the clocks start.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
import time
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


def bare(task: Task) -> Callable[[], None]:
    """A loop over aiohttp: submit, ask for the result until it is there, fetch, write. No ledger."""
    import aiohttp

    folder = Path(task.folder)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with session.post(
            f"{task.origin}/v2/{MODEL}", json={"prompt": prompt(number), "seed": number}
        ) as answer:
            request_id = (await answer.json())["request_id"]
        while True:
            async with session.get(f"{task.origin}/v2/requests/{request_id}") as answer:
                result = await answer.json()
            if result["status"] == "COMPLETED":
                break
            await asyncio.sleep(0.25)
        async with session.get(result["output"]) as answer:
            content = await answer.read()
        (folder / f"{number}.png").write_bytes(content)

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


CLIENTS = {"bare": bare, "official": official, "runner": ours}


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
