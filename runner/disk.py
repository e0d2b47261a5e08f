"""Work on files, in threads of their own, so that the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# Each may wait for the disk, which brings many files home in the time of one.
THREADS = 32
_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()


async def on_disk(work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Runs `work` in a thread; a cancelled caller waits until it is through.

    What has begun to rename a file must not be left behind half way.
    """
    loop = asyncio.get_running_loop()
    threads = _threads.get(loop)
    if threads is None:
        threads = _threads[loop] = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
    future = loop.run_in_executor(threads, work, *arguments)
    try:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([future])
    except asyncio.CancelledError:
        # A task that is cancelled by itself is not held back by any scope.
        await asyncio.wait([future])
        future.exception()
        raise
    return future.result()


def let_go() -> None:
    """Ends the threads of the running loop, once they have done what they were given."""
    threads = _threads.pop(asyncio.get_running_loop(), None)
    if threads is not None:
        threads.shutdown(wait=False)
