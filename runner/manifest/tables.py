"""Prompt files with columns: .csv and .tsv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from runner.documents import scalar_of
from runner.manifest.definitions import parameter_of
from runner.manifest.rows import Reading, Row

_MOST_CELL_CHARACTERS = 10_000_000


def csv_rows(reading: Reading, stream: TextIO) -> Iterator[Row]:
    """The rows of a table with commas."""
    yield from _table_rows(reading, stream, ",")


def tsv_rows(reading: Reading, stream: TextIO) -> Iterator[Row]:
    """The rows of a table with tabs."""
    yield from _table_rows(reading, stream, "\t")


def _table_rows(reading: Reading, stream: TextIO, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_MOST_CELL_CHARACTERS)
    lines = _CountedQuotes(stream)
    reader = csv.reader(lines, delimiter=delimiter)
    header: list[str] | None = None
    targets: dict[str, str] = {}
    line = 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if lines.take_count() % 2 and line - start > 1:
                reading.fault(start, "opens a quote that is never closed")
                return
            if not any(cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                targets = {name: t for name in header if name and (t := reading.target_of(name))}
                if _header_fault(reading, header, targets, start):
                    return
            elif len(cells) > len(header):
                reading.fault(start, f"has {len(cells)} cells, but the header names {len(header)}")
            elif row := reading.row(start, _cells(header, cells, targets), targets):
                yield _with_every_column(row, header)
    except csv.Error as error:
        reading.fault(line, f"is not a well-formed table: {error}")


class _CountedQuotes:
    """Lines whose quotes are counted: a stray one would swallow the rows below it unseen."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self._count += line.count('"')
            yield line

    def take_count(self) -> int:
        """How many quotes there were since the last call."""
        count, self._count = self._count, 0
        return count


def _header_fault(
    reading: Reading, header: list[str], targets: Mapping[str, str], line: int
) -> bool:
    twice = [name for i, name in enumerate(header) if name and name in header[:i]]
    message = f"the column `{twice[0]}` is there twice" if twice else reading.column_fault(header)
    found = targets.values()
    wanted = any(target == "prompt" or parameter_of(target) for target in found)
    if message is None and reading.prompt_needed and not wanted:
        near = next((name for name in header if name.casefold() == "prompt"), "<column>")
        message = f"has no column `prompt`; name one with `columns: {{{near}: prompt}}`"
    if message is not None:
        reading.fault(line, message)
    return message is not None


def _cells(header: list[str], cells: list[str], targets: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        text = cell.strip()
        if name and text:
            found[name] = scalar_of(text) if targets.get(name, "").startswith("params.") else text
    return found


def _with_every_column(row: Row, header: list[str]) -> Row:
    # An empty cell can be referred to: it reads as no text.
    if len(row.columns) == len(header):
        return row
    return row._replace(columns={**dict.fromkeys(filter(None, header)), **row.columns})
