"""One run per ledger: the lock says who has it, and is gone with whoever had it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import EXIT_LEDGER_BUSY, LedgerBusy, LedgerUnreadable
from runner.ledger import LedgerLock

SINCE = 1_790_000_000.0
HOLDER = """
import sys
from pathlib import Path
from runner.ledger import LedgerLock
lock = LedgerLock(Path(sys.argv[1]))
lock.acquire(float(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
lock.release()
print("released", flush=True)
"""


@contextlib.contextmanager
def holder(ledger: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(ledger), str(SINCE)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "runner.db"


def test_a_second_process_is_told_who_holds_the_ledger_and_since_when(ledger: Path):
    with holder(ledger) as process:
        with pytest.raises(LedgerBusy) as caught:
            LedgerLock(ledger).acquire(SINCE + 60)
        text = str(caught.value)
        assert str(ledger) in text
        assert f"process {process.pid} on " in text
        assert re.search(r"since 2026-09-2\d \d\d:\d\d:\d\d", text)
        assert caught.value.exit_code == EXIT_LEDGER_BUSY == 75


def test_who_was_refused_leaves_the_holders_lock_as_it_was(ledger: Path):
    with holder(ledger):
        for _ in range(3):
            with pytest.raises(LedgerBusy, match="since"):
                LedgerLock(ledger).acquire(SINCE)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal there")
def test_the_lock_vanishes_with_a_killed_process(ledger: Path):
    with holder(ledger) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert ledger.with_name("runner.db.lock").read_text()
        with LedgerLock(ledger) as lock:
            lock.acquire(SINCE)


def test_a_released_lock_is_free(ledger: Path):
    with holder(ledger) as process:
        process.communicate()
        with LedgerLock(ledger) as lock:
            lock.acquire(SINCE)


def test_a_lock_is_released_at_the_end_of_the_block_and_may_be_taken_again(ledger: Path):
    lock = LedgerLock(ledger)
    for _ in range(2):
        with lock:
            lock.acquire(SINCE)
            with pytest.raises(LedgerBusy, match=f"process {os.getpid()} "):
                LedgerLock(ledger).acquire(SINCE)


def test_the_existence_of_the_file_means_nothing(ledger: Path):
    path = ledger.with_name("runner.db.lock")
    path.write_text('{"pid": 1, "host": "x", "since": 1}')
    with LedgerLock(ledger) as lock:
        lock.acquire(SINCE)
    assert path.read_text() == ""


def test_what_a_holder_wrote_may_be_unreadable(ledger: Path):
    with holder(ledger):
        ledger.with_name("runner.db.lock").write_text("???")
        with pytest.raises(LedgerBusy, match=r"holds the ledger .*runner\.db; try again"):
            LedgerLock(ledger).acquire(SINCE)


def test_releasing_what_was_never_taken_does_nothing(ledger: Path):
    LedgerLock(ledger).release()
    assert not ledger.with_name("runner.db.lock").exists()


def test_the_folder_is_made_when_it_is_not_there(tmp_path: Path):
    with LedgerLock(tmp_path / "new" / "folder" / "l.db") as lock:
        lock.acquire(SINCE)
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_folder_that_cannot_be_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnreadable, match="cannot be written"):
        LedgerLock(tmp_path / "file" / "l.db").acquire(SINCE)
