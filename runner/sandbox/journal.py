"""The memory of a sandbox across restarts: one JSON line per accepted request."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from runner.sandbox.book import Accepted

_FORGOTTEN = ("polls", "result_misses")


class Journal:
    """Appends accepted requests to a file and reads them back; without a path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def open(self) -> list[Accepted]:
        """Open the file for appending and return what is in it."""
        if self._path is None:
            return []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = self._path.read_bytes() if self._path.exists() else b""
        self._file = self._path.open("ab")
        if content and not content.endswith(b"\n"):
            # The last writer was killed in the middle of a line, which it had not answered yet.
            self._file.write(b"\n")
        return [record for line in content.splitlines() if (record := _read(line))]

    def write(self, record: Accepted) -> None:
        """Append one record; it is with the operating system when this returns."""
        if self._file is None:
            return
        row = asdict(record)
        for name in _FORGOTTEN:
            del row[name]
        row["markers"] = sorted(record.markers)
        if not math.isfinite(record.finished_at):
            row["finished_at"] = None
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(line: bytes) -> Accepted | None:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    row["markers"] = frozenset(row["markers"])
    if row["finished_at"] is None:
        row["finished_at"] = math.inf
    return Accepted(**row)
