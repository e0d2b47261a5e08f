"""`runner doctor` finds what stands in the way of a run, and names the mend for each."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from desk import KEY, QUICK, Desk, Finished, Service

from runner.cli.findings import OTHER_DESCRIPTORS
from runner.fetcher import CONNECTIONS
from runner.ledger import LedgerLock
from runner.sandbox import Fixed, Options

OTHER_KEY = "SG_00000000000000aa"


def findings(desk: Desk, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and each finding by the first word of what it is about."""
    told = desk.run("doctor", "--json", *arguments)
    assert "Traceback" not in told.words
    assert KEY not in told.words
    found: dict[str, dict[str, Any]] = {}
    for line in told.out.splitlines():
        value = json.loads(line)
        assert set(value) == {"level", "what", "how", "mend"}
        assert value["how"]
        if value["level"] == "problem":
            assert value["mend"], value
        found[value["what"] if "key" in value["what"] else value["what"].split()[0]] = value
    return told.status, found


def said(desk: Desk) -> Finished:
    return desk.run("doctor")


def ledger_of(desk: Desk) -> Path:
    return desk.folder / "runner.db"


@pytest.fixture
def worked(desk: Desk, api: Service) -> Service:
    """A desk with a run behind it."""
    assert desk.run("run", desk.manifest("a fox")).status == 0
    return api


def test_all_is_well(desk: Desk, worked: Service) -> None:
    status, found = findings(desk)
    assert status == 0
    assert {each["level"] for each in found.values()} <= {"ok", "note"}
    assert set(found) == {
        *("config", "ledger", "output", "open", "API", "API key", "balance", "clock", "request")
    }
    assert found["ledger"]["how"] == "sound, 1 jobs"
    assert "$1,000.00" in found["balance"]["how"]
    assert "1 requests" in found["request"]["how"]
    assert worked.accepted == 1


def test_people_read_the_same_with_marks(desk: Desk, api: Service) -> None:
    told = said(desk)
    assert told.status == 0
    assert "[ ok ] balance" in told.out
    assert KEY not in told.words
    assert "not there yet" in told.out
    assert not ledger_of(desk).exists()
    assert desk.files() == []


def test_nothing_is_sent_that_costs(desk: Desk, api: Service) -> None:
    desk.run("doctor")
    assert {seen.route for seen in api.sandbox.requests} == {"credits", "history"}


def test_no_key(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(QUICK, key=None)
    status, found = findings(desk)
    assert status == 1
    assert found["API key"]["level"] == "problem"
    assert "SEGMIND_API_KEY" in found["API key"]["mend"]
    assert list(api.sandbox.requests) == []


def test_a_refused_key(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(replace(QUICK, key=OTHER_KEY))
    status, found = findings(desk)
    assert status == 1
    assert found["API key"]["level"] == "problem"
    assert "refused" in found["API key"]["how"]
    assert "console" in found["API key"]["mend"]


def test_a_key_of_another_shape_is_a_note(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(replace(QUICK, key="sk-0123456789"), key="sk-0123456789")
    status, found = findings(desk)
    assert status == 0
    told = desk.run("doctor").out
    assert "does not begin with SG_" in told
    assert "sk-0123456789" not in told
    assert found["balance"]["level"] == "ok"


def test_an_api_that_is_not_reached(desk: Desk) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        desk.configure(f"http://127.0.0.1:{closed.getsockname()[1]}")
        status, found = findings(desk)
    assert status == 1
    assert found["API"]["level"] == "problem"
    assert "not reached" in found["API"]["how"]
    assert "api.base_url" in found["API"]["mend"]


def test_an_empty_balance(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(replace(QUICK, credits=0.0))
    status, found = findings(desk)
    assert status == 1
    assert found["balance"]["level"] == "problem"
    assert "add credits" in found["balance"]["mend"]


@pytest.mark.parametrize(
    ("skew_s", "words", "level"),
    [
        (3600.0, "behind", "note"),
        (-3600.0, "ahead of", "note"),
        (60.0, "behind", "ok"),
    ],
)
def test_a_clock_that_is_wrong(
    desk: Desk, serve: Callable[..., Service], skew_s: float, words: str, level: str
) -> None:
    serve(replace(QUICK, clock_skew_s=skew_s))
    status, found = findings(desk)
    assert status == 0
    assert found["clock"]["level"] == level
    assert words in found["clock"]["how"]
    assert bool(found["clock"]["mend"]) == (level == "note")


def test_a_history_that_is_down(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(replace(QUICK, history="down"))
    status, found = findings(desk)
    assert status == 0
    assert found["request"]["level"] == "note"
    assert "api.history_url" in found["request"]["mend"]
    assert "503" in found["request"]["how"]


# The ledger


def damage(path: Path) -> None:
    """Writes garbage over pages in the middle of the file; its head is left as it was."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192 : len(content)] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)


def test_a_damaged_ledger(desk: Desk, worked: Service) -> None:
    damage(ledger_of(desk))
    before = ledger_of(desk).read_bytes()
    status, found = findings(desk)
    assert status == 1
    assert found["ledger"]["level"] == "problem"
    assert "damaged" in found["ledger"]["how"]
    assert "move" in found["ledger"]["mend"]
    assert "keep" in found["ledger"]["mend"]
    # What can still be fetched is told, so that nothing is paid again.
    assert "1 of them have files" in found["request"]["how"]
    assert ledger_of(desk).read_bytes() == before


def test_a_ledger_that_is_no_ledger(desk: Desk, api: Service) -> None:
    ledger_of(desk).write_bytes(b"no database at all " * 99)
    status, found = findings(desk)
    assert status == 1
    assert found["ledger"]["level"] == "problem"


def test_a_ledger_of_another_program(desk: Desk, api: Service) -> None:
    with contextlib.closing(sqlite3.connect(ledger_of(desk))) as database, database:
        database.execute("CREATE TABLE songs (name)")
    status, found = findings(desk)
    assert status == 1
    assert "another program" in found["ledger"]["how"]
    assert "move" not in found["ledger"]["mend"]


def test_a_ledger_of_a_newer_runner(desk: Desk, worked: Service) -> None:
    desk.sql("PRAGMA user_version = 99")
    status, found = findings(desk)
    assert status == 1
    assert "newer runner" in found["ledger"]["how"]
    assert "upgrade" in found["ledger"]["mend"]
    # It is whole: nobody should be told to move it away.
    assert "move" not in found["ledger"]["mend"]


def test_a_ledger_that_another_program_has_locked(
    desk: Desk, worked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.ledger.connection.BUSY_TIMEOUT_S", 0.1)
    with contextlib.closing(sqlite3.connect(ledger_of(desk))) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        status, found = findings(desk)
        other.rollback()
    assert status in (0, 1)
    assert "in use by another program" in found["ledger"]["how"]
    assert "move" not in found["ledger"]["mend"]


def test_a_ledger_that_cannot_be_written(
    desk: Desk, worked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sqlite3.connect

    def read_only(path: Any, **keys: Any) -> sqlite3.Connection:
        connection = real(path, **keys)
        connection.execute("PRAGMA query_only = ON")
        return connection

    desk.sql("PRAGMA user_version = 0")
    monkeypatch.setattr("runner.ledger.connection.sqlite3.connect", read_only)
    status, found = findings(desk)
    assert status == 1
    assert "cannot be written" in found["ledger"]["how"]
    assert "move" not in found["ledger"]["mend"]


def test_a_run_that_is_under_way_is_a_note(desk: Desk, worked: Service) -> None:
    with LedgerLock(ledger_of(desk)) as lock:
        lock.acquire(time.time())
        status, found = findings(desk)
    assert status == 0
    assert found["ledger"]["level"] == "note"
    assert "another run" in found["ledger"]["how"]


def test_jobs_in_flight_are_a_note(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(Options(latency=Fixed(60), picture_px=64), drain="100ms")
    assert desk.run("run", desk.manifest("a fox"), "--limit", "1").status == 3
    status, found = findings(desk)
    assert status == 0
    assert found["ledger"]["level"] == "note"
    assert "forgets the first within 60 min" in found["ledger"]["how"]


# The disk


def test_an_output_that_is_a_file(desk: Desk, api: Service) -> None:
    desk.write("output", "in the way")
    status, found = findings(desk)
    assert status == 1
    assert "is a file" in found["output"]["how"]
    assert "--output" in found["output"]["mend"]
    assert (desk.folder / "output").read_text() == "in the way"


def test_an_output_below_a_file(desk: Desk, api: Service) -> None:
    desk.write("pictures", "in the way")
    status, found = findings(desk, "--output", "pictures/night")
    assert status == 1
    assert "cannot be written" in found["output"]["how"]


def test_an_output_that_cannot_be_written(
    desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    status, found = findings(desk)
    assert status == 1
    assert "cannot be written: Permission denied" in found["output"]["how"]
    assert "permissions" in found["output"]["mend"]


def test_little_room_on_the_disk(desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**8))
    status, found = findings(desk)
    assert status == 0
    assert found["output"]["level"] == "note"
    assert "0.1 GB free" in found["output"]["how"]
    assert found["output"]["mend"]


def test_nothing_is_left_behind_in_the_output(desk: Desk, worked: Service) -> None:
    before = sorted(path.name for path in desk.folder.iterdir())
    desk.run("doctor")
    assert sorted(path.name for path in desk.folder.iterdir()) == before
    assert len(desk.files()) == 1


def test_the_sandbox_needs_no_account(desk: Desk) -> None:
    told = desk.run("doctor", "--sandbox")
    assert told.status == 0
    assert "simulated" in told.out


def test_a_wrong_config_is_told_as_ever(desk: Desk) -> None:
    desk.write("config.yaml", "run: {budgt: 3}\n")
    told = desk.run("doctor")
    assert told.status == 2
    assert "budgt" in told.err


# What is on this computer


def test_manifests_are_read_to_their_last_job(desk: Desk, api: Service) -> None:
    desk.manifest("a fox", "an owl", name="night")
    desk.write("prompts.txt", "a fox\na {{colour}} owl\n")
    desk.manifest({"file": "prompts.txt"}, name="day")
    status, found = findings(desk, "night.yaml")
    assert status == 0
    assert found["manifest"]["how"] == "well, 2 jobs"
    status, found = findings(desk, "night.yaml", "day.yaml")
    assert status == 1
    assert "prompts.txt:2" in found["manifest"]["how"]
    assert "runner schema manifest" in found["manifest"]["mend"]


@pytest.mark.parametrize("name", ["config.yaml", "runner.env"])
def test_a_key_that_others_can_read_is_a_note(desk: Desk, api: Service, name: str) -> None:
    path = desk.folder / name
    desk.configure(api.url, key=KEY if name == "config.yaml" else None)
    desk.write("runner.env", f"SEGMIND_API_KEY={KEY}\n").chmod(0o600)
    (desk.folder / "config.yaml").chmod(0o600)
    path.chmod(0o644)
    assert f"chmod 600 {name}" in said(desk).out
    path.chmod(0o600)
    assert "chmod" not in said(desk).out


def test_a_key_that_only_this_shell_knows_is_told(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    serve(QUICK, key=None)
    desk.environ["SEGMIND_API_KEY"] = KEY
    status, found = findings(desk)
    assert status == 0
    assert "runner init --cron" in found["API key's source"]["mend"]


def test_too_few_open_files_for_the_concurrency(
    desk: Desk, serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(QUICK, concurrency=5000)
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    status, found = findings(desk)
    assert status == 1
    wanted = 5000 + CONNECTIONS + OTHER_DESCRIPTORS
    assert f"LimitNOFILE={wanted}" in found["open"]["mend"]


def test_an_output_on_another_disk_is_a_note(desk: Desk, api: Service) -> None:
    other = Path("/dev/shm")  # noqa: S108
    if not other.is_dir() or other.stat().st_dev == desk.folder.stat().st_dev:
        pytest.skip("there is no other disk")
    status, found = findings(desk, "--output", f"{other}/pictures")
    assert status == 0
    assert "another disk" in found["output"]["how"]
    assert f"RequiresMountsFor={other}" in found["output"]["mend"]


def test_notifications_are_tried_only_when_asked_for(desk: Desk, api: Service) -> None:
    status, found = findings(desk, "--notify")
    assert status == 1
    assert found["notify"]["how"] == "there are no addresses"
    path = desk.folder / "config.yaml"
    path.write_text(path.read_text() + "notify: ['json://127.0.0.1:9/s3cr3t']\n")
    status, found = findings(desk)
    assert status == 0
    assert found["notify"]["how"] == "well, not tried: address 1 (json)"
    status, found = findings(desk, "--notify")
    assert status == 1
    assert "address 1 (json): not reached" in found["notify"]["how"]
    assert "s3cr3t" not in said(desk).words


def test_an_address_that_cannot_be_used_is_a_problem(desk: Desk, api: Service) -> None:
    path = desk.folder / "config.yaml"
    path.write_text(path.read_text() + "notify: ['nothing://s3cr3t']\n")
    status, found = findings(desk)
    assert status == 1
    assert "address 1 (nothing) cannot be used" in found["notify"]["how"]
    assert "s3cr3t" not in said(desk).words
