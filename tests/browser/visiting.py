"""What the tests in a browser share: how it is started, how wide it is, work beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

NEEDS_PLAYWRIGHT = "needs Playwright: pip install 'segmind-runner[browser]'"
NEEDS_CHROMIUM = "needs Chromium on the path, for instance from `apt-get install chromium`"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
WIDTHS = {"phone": 390, "desk": 1280, "wall": 2560}


def apart(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs a coroutine in a thread of its own: Playwright has a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
