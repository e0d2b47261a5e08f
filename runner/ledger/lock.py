"""One run per ledger: a lock of the operating system, gone with the process that held it."""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from runner.errors import LedgerBusy, LedgerUnreadable


class LedgerLock:
    """Holds `<ledger>.lock` while a run lasts. The file's existence means nothing, its lock does."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._path = ledger.with_name(ledger.name + ".lock")
        self._file: IO[str] | None = None

    def acquire(self, now: float) -> None:
        """Takes the lock. Raises LedgerBusy that says who holds it and since when."""
        try:
            self._ledger.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise LedgerUnreadable(
                f"the folder of the ledger {self._ledger} cannot be written: {error.strerror}"
            ) from error
        if not _try_lock(file):
            holder = _describe(file)
            file.close()
            raise LedgerBusy(
                f"another run holds the ledger {self._ledger}{holder}; try again when it ends"
            )
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now}, file)
        file.flush()
        self._file = file

    def release(self) -> None:
        """Gives the lock back; the file stays, because removing it would race with the next run."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def __enter__(self) -> LedgerLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _describe(file: IO[str]) -> str:
    try:
        file.seek(0)
        holder = json.load(file)
        since = datetime.fromtimestamp(float(holder["since"]), UTC).astimezone()
        return f" (process {holder['pid']} on {holder['host']}, since {since:%Y-%m-%d %H:%M:%S %Z})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


if sys.platform == "win32":
    import msvcrt

    # Far behind the text: on Windows a locked range cannot be read by others.
    _LOCKED_AT_BYTES = 1 << 30

    def _try_lock(file: IO[str]) -> bool:
        os.lseek(file.fileno(), _LOCKED_AT_BYTES, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
