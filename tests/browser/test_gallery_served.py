"""The gallery as a server: it follows a run of another process, and shows nothing to anybody else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from exhibition import Exhibit, a_night, hang, job, lead, picture
from visiting import apart

from runner.job import State
from runner.ledger import Ledger

Open = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts `runner gallery --serve` in a folder; returns the address it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *options: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", "gallery", "--serve", "--port", "0", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        found = re.search(r"http://\S+(?=;)", process.stdout.readline())
        assert found is not None
        return found[0]

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_a_page_follows_a_run_of_another_process(
    tmp_path: Path, serve: Callable[..., str], visit: Open
):
    waiting = [Exhibit(job(n, f"picture {n}"), State.PENDING) for n in range(4)]
    path = apart(lambda: hang(tmp_path, waiting, simulated=True))
    page = visit(serve(tmp_path))
    page.wait_for_selector(".tile >> text=pending")
    page.wait_for_selector("#live[data-live=live]")

    async def run() -> None:
        async with await Ledger.open(path) as ledger:
            for number, exhibit in enumerate(waiting[:3]):
                data = ((f"night/j{number}.jpg", picture(number), "image/jpeg"),)
                ended = Exhibit(exhibit.job, files=data)
                if number == 2:
                    ended = Exhibit(exhibit.job, State.FAILED, error="out of memory")
                await lead(ledger, tmp_path / "output", ended, number)

    apart(run)

    page.wait_for_selector("#tiles img[alt='picture 1']")
    page.wait_for_selector(".tile >> text=failed")
    page.wait_for_function("document.getElementById('figures').innerText.includes('2 of 4')")
    assert page.inner_text("#attention-count") == "1"
    sizes = page.eval_on_selector_all("#tiles img", "all => all.map(i => i.naturalWidth)")
    assert all(width > 0 for width in sizes)


def test_any_address_but_loopback_asks_for_a_token(
    night: Path, serve: Callable[..., str], visit: Open, browser: Any
):
    address = serve(night, "--host", "0.0.0.0")  # noqa: S104
    host, token = re.sub(r"//[^:/]+", "//127.0.0.1", address).split("?")

    context = browser.new_context()
    refused = context.request.get(host)
    wrong = context.request.get(f"{host}?token=wrong")
    assert (refused.status, wrong.status) == (401, 401)
    assert context.request.get(f"{host}night/j0.jpg").status == 401
    assert context.request.get(f"{host}events").status == 401
    context.close()
    page = visit(f"{host}?{token}")
    page.wait_for_selector("#tiles .tile")

    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""
    assert page.inner_text(".title") == "night"
    assert len(a_night()) == page.locator("#tiles .tile").count()
