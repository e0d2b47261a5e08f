"""JSON Lines files: written beside, then given their name, so that nobody meets half of one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from runner.media import put_in_place
from runner.report.export.columns import Columns, Survey
from runner.report.export.rows import Item


class LinesFile:
    """A JSON Lines file in the making; use as `with`. It appears only if the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> LinesFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Half a character cannot be written: it is no reason to have no file.
        self._file = self._part.open("w", encoding="utf-8", errors="replace", newline="\n")
        return self

    def add(self, row: dict[str, Any]) -> None:
        """Writes one row."""
        self._file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                put_in_place(self._part, self._path)
        finally:
            with suppress(OSError):
                self._part.unlink()


Finish = Callable[[Item, dict[str, Any]], dict[str, Any]]
"""Adds to a row what only its format knows."""


async def write_rows(
    path: Path,
    items: Callable[[], AsyncIterator[Item]],
    survey: Survey,
    columns: Columns,
    finish: Finish,
) -> None:
    """Writes a row for each of the items, those first that tell a loader the columns' types."""
    first = survey.late_witnesses(columns)
    with LinesFile(path) as file:
        if first:
            async for item in items():
                if item.place in first:
                    file.add(finish(item, columns.row(item.fields())))
        async for item in items():
            if item.place not in first:
                file.add(finish(item, columns.row(item.fields())))
