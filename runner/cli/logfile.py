"""`--log-file`: every event of a run as a line of JSON, in a file that is rotated before it grows large."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from runner.assembly.running import Watcher
from runner.errors import RunnerError, UsageError
from runner.events import Event, Noted, Observer

MOST_BYTES = 10_000_000
OLDER_FILES = 5


class LogFile:
    """Appends lines to a file; once that has `most_bytes`, it goes on in a new one.

    The file becomes `<name>.1`, that one `.2`, and so on; `older` of them are kept. What cannot be
    written once the run is under way is left out, and is said once. Raises UsageError when the file
    cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        most_bytes: int = MOST_BYTES,
        older: int = OLDER_FILES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._older = older
        self._clock = clock
        self._warned = False
        self._warn: Observer = lambda _: None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._check()
            self._open()
        except OSError as error:
            raise UsageError(f"the log file {path} cannot be written: {error.strerror}") from error

    def beside(self, watcher: Watcher) -> Watcher:
        """A watcher that shows, and then writes; it also shows when that fails."""
        self._warn = watcher.see
        return _Both(watcher, self)

    def see(self, event: Event) -> None:
        """Writes an event; never raises into the run."""
        self.write(type(event).__name__.lower(), asdict(event))

    def write(self, name: str, about: Mapping[str, Any]) -> None:
        """Writes a line with the time and the name of what happened."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        told = {key: value for key, value in about.items() if value is not None}
        line = {"time": at.replace("+00:00", "Z"), "event": name, **told}
        content = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            if self._size_bytes and self._size_bytes + len(content) > self._most_bytes:
                self._rotate()
            self._append(content)
        except OSError as error:
            if not self._warned:
                self._warned = True
                words = f"the log file {self._path} cannot be written: {error.strerror}"
                self._warn(Noted(f"{words}; the run goes on without", warning=True))

    def close(self) -> None:
        """Nothing is written any more."""
        os.close(self._descriptor)

    def _check(self) -> None:
        # A slip of the keyboard must not append to a manifest or a ledger.
        if not self._path.exists():
            return
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise UsageError(f"the log file {self._path} is no file; name another")
        with self._path.open("rb") as file:
            begin = file.read(1)
        if begin not in (b"", b"{", b"\n"):
            raise UsageError(f"{self._path} is there and is no log file; name another")

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, 0o644)
        self._size_bytes = os.fstat(self._descriptor).st_size
        self._is_torn = False

    def _append(self, content: bytes) -> None:
        # After a line that the disk had no room for, the next one begins anew.
        left = b"\n" + content if self._is_torn else content
        while left:
            written = os.write(self._descriptor, left)
            self._size_bytes += written
            left = left[written:]
            self._is_torn = bool(left)

    def _rotate(self) -> None:
        for number in range(self._older - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        old = self._descriptor
        self._open()
        os.close(old)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class _Both:
    def __init__(self, watcher: Watcher, log: LogFile) -> None:
        self._watcher = watcher
        self._log = log

    def __enter__(self) -> Self:
        self._watcher.__enter__()
        return self

    def __exit__(self, *exit_details: object) -> None:
        self._watcher.__exit__(*exit_details)

    def see(self, event: Event) -> None:
        self._watcher.see(event)
        self._log.see(event)


@contextmanager
def logged(path: Path | None, about: Mapping[str, Any]) -> Iterator[LogFile | None]:
    """The log of a run, from its start to the error that ended it, if any; None without a path."""
    if path is None:
        yield None
        return
    log = LogFile(path)
    log.write("started", about)
    try:
        yield log
    except RunnerError as error:
        log.write("ended", {"exit": error.exit_code, "error": str(error)})
        raise
    finally:
        log.close()
