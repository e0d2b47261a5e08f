"""Full disks, damaged files, jumping clocks and signals at any time: a run says so, and resumes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Finished, Service, finish, wait_until

from runner.sandbox import Fixed, Options

JOBS = 24
STRICT = {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
# Whatever Python says of what nobody cleared away.
LITTER = ("Traceback", "Exception ignored", "never awaited", "Warning", "destroyed but")


def animals(count: int = JOBS) -> list[str]:
    return [f"animal {n}" for n in range(count)]


def ledger_of(desk: Desk) -> Path:
    return desk.folder / "runner.db"


def states(desk: Desk) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in desk.jobs().values():
        found[job["state"]] = found.get(job["state"], 0) + 1
    return found


def resumes(desk: Desk, api: Service, count: int = JOBS) -> None:
    """Another run finishes everything, pays nothing twice and leaves no litter."""
    desk.configure(api.url, doubt_wait="1s")
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 0, ended.words
    assert ended.json["states"] == {"saved": count}
    assert api.accepted == count
    assert api.sandbox.stats()["max_per_body"] == 1
    assert len(desk.files()) == count, desk.files()
    assert not list(desk.output.rglob("*.part*"))


def no_litter(told: Finished) -> None:
    assert not [word for word in LITTER if word in told.words], told.words


@contextlib.contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    """Does something while a run is under way in this process."""
    thread = threading.Thread(target=what)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


# The ledger's disk


@pytest.fixture
def pages_left(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many pages more the database may have when it is opened; None is no bound."""
    left: list[int | None] = [None]
    real = sqlite3.connect

    def bounded(path: Any, **keys: Any) -> sqlite3.Connection:
        connection = real(path, **keys)
        if left[0] is not None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + left[0]}")
        return connection

    monkeypatch.setattr("runner.ledger.connection.sqlite3.connect", bounded)
    return left


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_disk_that_fills_during_a_run_ends_it_in_words_and_it_resumes(
    desk: Desk, api: Service, pages_left: list[int | None], pages: int
) -> None:
    desk.manifest(*animals())
    assert desk.run("run", "animals.yaml", "--limit", "0").status == 3
    pages_left[0] = pages
    ended = desk.run("run", "animals.yaml")
    assert ended.status == 3, ended.words
    assert "is full" in ended.err
    assert "free some space and run again" in ended.err
    no_litter(ended)
    pages_left[0] = None
    resumes(desk, api)


def test_a_disk_that_is_full_before_anything_is_planned_sends_nothing(
    desk: Desk, api: Service, pages_left: list[int | None]
) -> None:
    pages_left[0] = 2
    ended = desk.run("run", desk.manifest(*animals()))
    assert ended.status in (2, 3), ended.words
    assert "is full" in ended.err
    assert api.accepted == 0
    pages_left[0] = None
    resumes(desk, api)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for almost nothing."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.name == "posix" and os.geteuid() == 0 and shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=448k", "tmpfs", str(folder)]
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills_ends_a_run_in_words_and_it_resumes(
    desk: Desk, api: Service, small_disk: Path
) -> None:
    desk.manifest(*animals())
    ledger = ("--ledger", str(small_disk / "runner.db"))
    ended = desk.run("run", "animals.yaml", *ledger)
    fill = small_disk / "filler"
    if ended.status == 0:
        pytest.skip("the disk was large enough")
    assert ended.status == 3, ended.words
    no_litter(ended)
    assert "is full" in ended.err or "disk" in ended.err
    fill.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    desk.configure(api.url, doubt_wait="1s")
    again = desk.run("run", "animals.yaml", *ledger, "--json")
    assert again.status == 0, again.words
    assert api.accepted == JOBS
    assert api.sandbox.stats()["max_per_body"] == 1


# The ledger's file


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger can be read and not written, as on a disk that was mounted so."""
    real = sqlite3.connect

    def connect(path: Any, **keys: Any) -> sqlite3.Connection:
        connection = real(path, **keys)
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr("runner.ledger.connection.sqlite3.connect", connect)


def test_a_ledger_that_cannot_be_written_sends_nothing(
    desk: Desk, api: Service, request: pytest.FixtureRequest
) -> None:
    desk.manifest("a fox")
    assert desk.run("run", "animals.yaml", "--limit", "0").status == 3
    request.getfixturevalue("read_only")
    ended = desk.run("run", "animals.yaml")
    assert ended.status in (2, 3), ended.words
    assert "cannot be written; check its permissions" in ended.err
    no_litter(ended)
    assert api.accepted == 0
    # Looking is still allowed.
    assert desk.run("status").status == 0


def damage(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)


@pytest.mark.parametrize("command", ["run", "status", "jobs"])
def test_a_damaged_ledger_is_left_alone_and_the_doctor_is_named(
    desk: Desk, api: Service, command: str
) -> None:
    desk.manifest(*animals())
    assert desk.run("run", "animals.yaml").status == 0
    damage(ledger_of(desk))
    before = ledger_of(desk).read_bytes()
    ended = desk.run(command, "animals.yaml")
    assert ended.status == 2, ended.words
    assert "damaged" in ended.err
    assert "runner doctor" in ended.err
    no_litter(ended)
    assert ledger_of(desk).read_bytes() == before
    assert api.accepted == JOBS


def test_a_ledger_of_a_newer_runner_is_left_alone(desk: Desk, api: Service) -> None:
    desk.manifest("a fox")
    assert desk.run("run", "animals.yaml", "--limit", "0").status == 3
    desk.sql("PRAGMA user_version = 99")
    before = ledger_of(desk).read_bytes()
    for command in ("run", "status", "retry"):
        ended = desk.run(command, "animals.yaml")
        assert ended.status == 2, ended.words
        assert "upgrade" in ended.err
    assert ledger_of(desk).read_bytes() == before
    assert api.accepted == 0


# The output


def test_an_output_that_is_deleted_during_a_run_is_made_again(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.2), picture_px=64), concurrency=4)
    desk.manifest(*animals())

    def delete() -> None:
        wait_until(lambda: len(desk.files()) >= 4)
        desk.output.rename(desk.folder / "elsewhere")

    with meanwhile(delete):
        ended = desk.run("run", "animals.yaml")
    assert ended.status in (0, 3), ended.words
    no_litter(ended)
    # What the first files' folder took with it is fetched again, and not paid again.
    resumes(desk, api)


# Clocks


@pytest.fixture
def offset(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far the run's own clock is ahead."""
    ahead = [0.0]
    monkeypatch.setattr("runner.governor.Clock.wall", lambda _: time.time() + ahead[0])
    return ahead


@pytest.mark.parametrize("jump_s", [-7200.0, 1.5, 290.0, 86400.0])
def test_a_clock_that_jumps_during_a_run_loses_nothing(
    desk: Desk, serve: Callable[..., Service], offset: list[float], jump_s: float
) -> None:
    api = serve(Options(latency=Fixed(0.4), picture_px=64), concurrency=4, doubt_wait="1s")
    desk.manifest(*animals(8), "a lost one [[lost]]")

    def jump() -> None:
        wait_until(lambda: api.accepted >= 4)
        offset[0] = jump_s

    started = time.monotonic()
    with meanwhile(jump):
        ended = desk.run("run", "animals.yaml", "--json")
    assert time.monotonic() - started < 15
    assert ended.json["states"].get("saved", 0) >= 8, ended.words
    assert api.accepted == 9
    assert api.sandbox.stats()["max_per_body"] == 1
    # By the right clock again.
    offset[0] = 0.0
    last = desk.run("run", "animals.yaml", "--json")
    assert last.json["states"] in ({"saved": 9}, {"saved": 8, "in_doubt": 1})
    assert api.accepted == 9


@pytest.mark.parametrize("skew_s", [-86400.0, -600.0, 600.0, 86400.0])
def test_a_server_of_another_time_is_no_trouble(
    desk: Desk, serve: Callable[..., Service], skew_s: float
) -> None:
    options = Options(latency=Fixed(0.02), picture_px=64, clock_skew_s=skew_s)
    api = serve(options, doubt_wait="1s")
    ended = desk.run("run", desk.manifest("a fox", "an owl [[lost]]"), "--json")
    assert ended.status == 0, ended.words
    assert api.accepted == 2


# Signals


def stopped(desk: Desk, when: Callable[[], Any], *, twice: bool = False) -> Finished:
    """A run that is told to end as soon as `when` is true."""
    process = desk.start("run", "animals.yaml", environ=STRICT)
    wait_until(when)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    if twice:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    return finish(process)


def test_a_signal_while_the_manifest_is_read(desk: Desk, api: Service) -> None:
    desk.write("prompts.txt", "\n".join(f"fox {n}" for n in range(100_000)))
    desk.manifest({"file": "prompts.txt"})
    ended = stopped(desk, lambda: (desk.folder / "runner.db-wal").exists())
    assert ended.status == 3, ended.words
    no_litter(ended)
    assert api.accepted == 0
    desk.manifest(*animals(2))
    resumes(desk, api, 2)


@pytest.mark.parametrize("twice", [False, True])
def test_a_signal_while_jobs_are_sent(
    desk: Desk, serve: Callable[..., Service], twice: bool
) -> None:
    options = Options(latency=Fixed(0.05), picture_px=64, slow_s=20.0)
    api = serve(options, drain="300ms", concurrency=4)
    desk.manifest(*[f"animal {n} [[slow-answer]]" for n in range(4)])
    ended = stopped(desk, lambda: api.accepted == 4, twice=twice)
    assert ended.status == 3, ended.words
    no_litter(ended)
    assert set(states(desk)) <= {"submitting", "in_doubt"}
    resumes(desk, api, 4)


def test_a_signal_while_jobs_are_polled(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(Options(latency=Fixed(2.0), picture_px=64), drain="300ms", concurrency=4)
    desk.manifest(*animals(4))
    ended = stopped(desk, lambda: api.count("status") + api.count("result") >= 3)
    assert ended.status == 3, ended.words
    no_litter(ended)
    assert states(desk) == {"submitted": 4}
    resumes(desk, api, 4)


@pytest.mark.parametrize("twice", [False, True])
def test_a_signal_while_files_are_fetched(
    desk: Desk, serve: Callable[..., Service], twice: bool
) -> None:
    options = Options(latency=Fixed(0.05), picture_px=64, drip_s=3.0)
    api = serve(options, drain="300ms")
    desk.manifest(*[f"animal {n} [[media-drip]]" for n in range(3)])
    # A medium is counted when it has been sent whole, which takes a while.
    ended = stopped(desk, lambda: states(desk) == {"completed": 3}, twice=twice)
    assert ended.status == 3, ended.words
    no_litter(ended)
    assert states(desk) == {"completed": 3}
    # Nothing stands under its final name before it is whole.
    assert not [name for name in desk.files() if name.endswith(".png")]
    resumes(desk, api, 3)


def test_a_signal_while_the_history_is_asked(desk: Desk, serve: Callable[..., Service]) -> None:
    options = Options(latency=Fixed(0.05), picture_px=64, history="down")
    api = serve(options, doubt_wait="1h")
    desk.manifest(*animals(3), "a lost one [[lost-before]]")
    ended = stopped(desk, lambda: api.count("history") >= 1 and len(desk.files()) == 3)
    assert ended.status in (1, 3), ended.words
    no_litter(ended)
    assert states(desk) == {"saved": 3, "in_doubt": 1}
    assert api.accepted == 3


def test_a_signal_before_the_rate_allows_anything(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.05), picture_px=64, rpm=1), drain="100ms")
    desk.manifest(*animals(4), "a lost one [[lost]]")
    ended = stopped(desk, lambda: api.count("submit") >= 2)
    assert ended.status == 3, ended.words
    no_litter(ended)
