"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from desk import QUICK, Desk, Process, Service
from hypothesis import HealthCheck, settings

from runner.sandbox import Options

# How quick the machine is says nothing of what is right.
settings.register_profile(
    "calm", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("calm")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each processor: half of the time they wait, for polls, processes and the disk."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question about a job comes soon: the simulated jobs take no time, nor do requests."""
    monkeypatch.setattr("runner.policy.polling.SCOUT_FIRST_S", 0.05, raising=False)
    monkeypatch.setattr("runner.policy.pace.FIRST_BURST", 1000)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder to type commands in; it has no config yet."""
    return Desk(tmp_path)


@pytest.fixture
def serve(desk: Desk) -> Iterator[Callable[..., Service]]:
    """Starts simulated APIs in this process, and leads the desk's config to them."""
    with ExitStack() as stack:

        def start(
            options: Options = QUICK, clock: Callable[[], float] = time.time, **run: object
        ) -> Service:
            service = stack.enter_context(Service(options, clock))
            desk.configure(service.url, **run)
            return service

        yield start


@pytest.fixture
def api(serve: Callable[..., Service]) -> Service:
    """A quick and kind simulated API that the desk's config leads to."""
    return serve()


@pytest.fixture
def spawn() -> Iterator[Callable[..., Process]]:
    """Starts `runner sandbox` processes."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.stop()
