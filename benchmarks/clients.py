"""What people use instead: the official SDK in a pool of threads, and a plain asyncio loop.

`python -m benchmarks.clients sdk|loop URL JOBS FOLDER`: renders JOBS pictures into FOLDER, 64 at a time.
Both are patient: at a 429 they wait a second and try again, and never give up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.service import KEY

AT_ONCE = 64
POLL_S = 1.0
PATIENCE_S = 1.0


def sdk(url: str, jobs: int, folder: Path) -> None:
    """`SegmindClient` as its documentation shows it: submit, then `wait()`, in a pool of threads."""
    import httpx
    from segmind import SegmindClient
    from segmind.exceptions import SegmindError

    client = SegmindClient(api_key=KEY, base_url=f"{url}/v1")
    media = httpx.Client(limits=httpx.Limits(max_connections=AT_ONCE))

    def patiently(call: Any) -> Any:
        while True:
            try:
                return call()
            except SegmindError as error:
                if error.status != 429:
                    raise
                time.sleep(PATIENCE_S)

    def render(number: int) -> None:
        job = patiently(lambda: client.submit_async("imagen", prompt=f"picture {number}"))
        body = patiently(lambda: job.wait(timeout=86_400, interval=POLL_S))
        (folder / f"{number:06}.png").write_bytes(media.get(body["output"]).content)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(render, range(jobs)))


def loop(url: str, jobs: int, folder: Path) -> None:
    """The loop that one writes in an afternoon: a semaphore, a status each second, then the result."""
    asyncio.run(_loop(url, jobs, folder))


async def _loop(url: str, jobs: int, folder: Path) -> None:
    import aiohttp

    turn = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(headers={"x-api-key": KEY}) as session:

        async def ask(method: str, path: str, **more: Any) -> Any:
            while True:
                async with session.request(method, url + path, **more) as answer:
                    if answer.status != 429:
                        return await answer.json()
                await asyncio.sleep(PATIENCE_S)

        async def render(number: int) -> None:
            async with turn:
                sent = await ask("POST", "/v2/imagen", json={"prompt": f"picture {number}"})
                path = f"/v2/requests/{sent['request_id']}"
                while (await ask("GET", f"{path}/status"))["status"] != "COMPLETED":
                    await asyncio.sleep(POLL_S)
                body = await ask("GET", path)
                async with media.get(body["output"]) as answer:
                    (folder / f"{number:06}.png").write_bytes(await answer.read())

        async with aiohttp.ClientSession() as media:
            await asyncio.gather(*(render(number) for number in range(jobs)))


if __name__ == "__main__":
    name, address, count, target = sys.argv[1:]
    Path(target).mkdir(parents=True, exist_ok=True)
    {"sdk": sdk, "loop": loop}[name](address, int(count), Path(target))
