"""The first signal drains, the second stops; either way everything resumes and nothing is paid twice."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from desk import Desk, Service, finish, wait_until

from runner.sandbox import Fixed, Options

FOXES = [f"fox {n}" for n in range(12)]


def begin(
    desk: Desk, serve: Callable[..., Service], latency_s: float, **run: object
) -> tuple[Service, subprocess.Popen[str]]:
    """A run of twelve with four in flight, when these four are accepted."""
    api = serve(Options(latency=Fixed(latency_s), picture_px=64), concurrency=4, **run)
    process = desk.start("run", desk.manifest(*FOXES))
    wait_until(lambda: api.accepted >= 4)
    return api, process


def resume(desk: Desk, api: Service) -> None:
    desk.configure(api.url)
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 0, ended.words
    assert ended.json["states"] == {"saved": 12}
    assert api.sandbox.stats()["max_per_body"] == 1
    assert api.accepted == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_what_is_in_flight_and_sends_nothing_new(
    desk: Desk, serve: Callable[..., Service], number: signal.Signals
) -> None:
    api, process = begin(desk, serve, 1.0)
    process.send_signal(number)
    ended = finish(process)
    assert ended.status == 3, ended.words
    assert api.accepted == 4
    states = [job["state"] for job in desk.jobs().values()]
    assert states.count("saved") == 4
    assert states.count("pending") == 8
    assert number.name in ended.out
    assert "stopping" in ended.err
    assert "run again" in ended.out
    assert "Traceback" not in ended.words
    resume(desk, api)


def test_a_second_signal_stops_at_once(desk: Desk, serve: Callable[..., Service]) -> None:
    api, process = begin(desk, serve, 8.0)
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    while "stopping" not in line:
        line = process.stderr.readline()
        assert line
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert time.monotonic() - started < 2
    assert ended.status == 3, ended.words
    states = [job["state"] for job in desk.jobs().values()]
    assert states.count("submitted") == 4
    assert states.count("pending") == 8
    assert "Traceback" not in ended.words
    for record in api.sandbox.accepted.values():
        record.finished_at = time.time()
    resume_slowly(desk, api)


def resume_slowly(desk: Desk, api: Service) -> None:
    """Only the four in flight are collected: what is new would take its eight seconds."""
    ended = desk.run("run", "animals.yaml", "--limit", "0", "--json")
    assert ended.json["states"] == {"pending": 8, "saved": 4}
    assert api.accepted == 4
    assert api.sandbox.stats()["max_per_body"] == 1


def test_the_first_signal_stops_a_run_that_drains_anyway(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    serve(Options(latency=Fixed(60.0), picture_px=64))
    process = desk.start("run", desk.manifest(*FOXES), "--limit", "1")
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process, 10).status == 3


def test_a_drain_ends_after_its_time(desk: Desk, serve: Callable[..., Service]) -> None:
    _, process = begin(desk, serve, 60.0, drain="300ms")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert finish(process).status == 3
    assert time.monotonic() - started < 3
    assert [j["state"] for j in desk.jobs().values()].count("submitted") == 4


def test_a_signal_when_all_is_done_does_not_spoil_the_exit_status(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(1.0), picture_px=64))
    process = desk.start("run", desk.manifest("the last fox"))
    wait_until(lambda: api.accepted)
    process.send_signal(signal.SIGINT)
    assert finish(process).status == 0


def test_a_signal_while_the_api_holds_the_run_off_stops_it(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.02), picture_px=64, rpm=1, window_s=60.0))
    process = desk.start("run", desk.manifest(*FOXES))
    wait_until(lambda: api.count("submit") > 1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert finish(process, 5).status == 3
    assert api.accepted == 1


def test_a_signal_before_anything_is_sent_ends_in_words(desk: Desk, api: Service) -> None:
    # A long manifest is read for a while.
    desk.write("prompts.txt", "\n".join(f"fox {n}" for n in range(200_000)))
    process = desk.start("run", desk.manifest({"file": "prompts.txt"}))
    wait_until(lambda: (desk.folder / "runner.db").exists())
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.status == 3, ended.words
    assert "run again" in ended.err
    assert "Traceback" not in ended.words
    assert api.accepted == 0
