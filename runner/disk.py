"""Work on files, in threads of their own, so that the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# Each may wait for the disk, which brings many files home in the time of one.
THREADS = 32
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")


async def on_disk(work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Runs `work` in a thread; a cancelled caller waits until it is through.

    What has begun to rename a file must not be left behind half way.
    """
    future = asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
    with anyio.CancelScope(shield=True):
        await future
    return future.result()
