"""The rows of prompt files, one at a time: .txt, .csv, .tsv and .jsonl."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from runner.documents import (
    ProblemList,
    did_you_mean,
    fill_environment,
    kind_of,
    missing_file,
    open_text,
    scalar_of,
)
from runner.errors import Problem
from runner.manifest.definitions import ROW_TARGETS, Entry, repeat_of, tags_of

NOTHING: Mapping[str, Any] = {}
_DEEPEST = 64
_MOST_CELL_CHARACTERS = 10_000_000


class Row(NamedTuple):
    """One row as an entry asks for it: `columns` can be referred to, `meta` is kept with the job."""

    line: int
    prompt: str | None = None
    id: str | None = None
    tags: tuple[str, ...] = ()
    repeat: int | None = None
    params: Mapping[str, Any] = NOTHING
    columns: Mapping[str, Any] = NOTHING
    meta: Mapping[str, Any] = NOTHING


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A file of prompts; `shown` names it in messages, `given` in the jobs' sources."""

    path: Path
    shown: str
    given: str

    @staticmethod
    def locate(folder: Path, text: str) -> PromptFile:
        """The file that an entry of a manifest in `folder` names; ValueError if it cannot be."""
        given = fill_environment(text, os.environ)
        try:
            path = folder / Path(given).expanduser()
            if given != text and not path.exists() and Path(given).exists():
                path = Path(given)  # who sets a variable in a shell means the working directory
            if path.suffix.lower() not in _READERS:
                raise ValueError(f"`{given}` is none of {', '.join(_READERS)}")
            if path.is_dir():
                raise ValueError(f"`{given}` is a folder, not a file")
            if not path.exists():
                raise ValueError(f"`{given}`: {missing_file(path)}")
        except (OSError, RuntimeError) as error:  # a name too long, a home that is not there
            raise ValueError(f"`{given}` cannot be found: {error}") from None
        return PromptFile(path, str(path), given)

    def rows(
        self, entry: Entry, problems: ProblemList, *, prompt_needed: bool = True
    ) -> Iterator[Row]:
        """Its rows as `entry` asks for them; faulty rows are told to `problems` and left out.

        `prompt_needed`: a row must bring a prompt or parameters, for the manifest has neither.
        """
        reading = _Reading(self, entry, problems, prompt_needed)
        with open_text(self.path, self.shown, newline=None if self._is_lines else "") as stream:
            yield from _READERS[self.path.suffix.lower()](reading, stream)

    @property
    def _is_lines(self) -> bool:
        return self.path.suffix.lower() in (".txt", ".jsonl")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One pass over a file on behalf of an entry."""

    file: PromptFile
    entry: Entry
    problems: ProblemList
    prompt_needed: bool

    def fault(self, line: int | None, message: str, column: str | None = None) -> None:
        """Tells what is wrong with a line of the file."""
        self.problems.add(Problem(self.file.shown, message, line, column))

    def target_of(self, column: str) -> str | None:
        """What a column is: prompt, id, tags, repeat, params, params.<name>, or None: metadata."""
        entry = self.entry
        mapped = entry.columns.get(column)
        if mapped:
            return mapped
        own = column in ROW_TARGETS or (column.startswith("params.") and len(column) > 7)
        taken = column in entry.columns.values() and column != "tags"
        replaced = (column == "prompt" and entry.prompt is not None) or (
            column == "id" and entry.id is not None
        )
        return column if own and not taken and not replaced else None

    def row(self, line: int, cells: Mapping[str, Any], targets: Mapping[str, str]) -> Row | None:
        """The row of these cells; None, and a problem told, if a cell is not what it should be."""
        found: dict[str, Any] = {}
        params: dict[str, Any] = {}
        tags: tuple[str, ...] = ()
        column = ""
        try:
            for column, target in targets.items():
                value = cells.get(column)
                if column not in cells or (value is None and not target.startswith("params.")):
                    continue
                if target == "tags":
                    tags += tags_of(value)
                elif target == "params":
                    params = {**_object(value), **params}
                elif target.startswith("params."):
                    params[target[7:]] = value
                else:
                    found[target] = _CHECKS[target](value)
        except ValueError as error:
            self.fault(line, str(error), column)
            return None
        if self.prompt_needed and "prompt" not in found and not params:
            self.fault(line, "has no prompt")
            return None
        meta = {name: value for name, value in cells.items() if name not in targets}
        return Row(line, tags=tags, params=params, columns=cells, meta=meta, **found)

    def row_of_text(self, line: int, text: str) -> Row:
        """The row of a bare text: the prompt, or what the entry's own prompt calls `{{prompt}}`."""
        if self.entry.prompt is None:
            return Row(line, text)
        cell = {"prompt": text}
        return Row(line, columns=cell, meta=cell)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, not {kind_of(value)}")
    return value


def _id(value: Any) -> str:
    return str(value) if type(value) is int else _text(value)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {kind_of(value)}")
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {"prompt": _text, "id": _id, "repeat": repeat_of}


def _text_rows(reading: _Reading, stream: TextIO) -> Iterator[Row]:
    if reading.entry.columns:
        column = next(iter(reading.entry.columns))
        reading.fault(None, f"a .txt file has no columns, so there is no `{column}`")
        return
    row_of_text = Row if reading.entry.prompt is None else reading.row_of_text
    for number, line in enumerate(stream, start=1):
        if text := line.strip():
            yield row_of_text(number, text)


def _csv_rows(reading: _Reading, stream: TextIO) -> Iterator[Row]:
    yield from _table_rows(reading, stream, ",")


def _tsv_rows(reading: _Reading, stream: TextIO) -> Iterator[Row]:
    yield from _table_rows(reading, stream, "\t")


def _table_rows(reading: _Reading, stream: TextIO, delimiter: str) -> Iterator[Row]:
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
    reading: _Reading, header: list[str], targets: Mapping[str, str], line: int
) -> bool:
    twice = [name for i, name in enumerate(header) if name and name in header[:i]]
    message = f"the column `{twice[0]}` is there twice" if twice else _column_fault(reading, header)
    found = targets.values()
    wanted = any(target == "prompt" or target.startswith("params.") for target in found)
    if message is None and reading.prompt_needed and not wanted:
        near = next((name for name in header if name.casefold() == "prompt"), "<column>")
        message = f"has no column `prompt`; name one with `columns: {{{near}: prompt}}`"
    if message is not None:
        reading.fault(line, message)
    return message is not None


def _column_fault(reading: _Reading, columns: Collection[str]) -> str | None:
    for column in reading.entry.columns:
        if column not in columns:
            listed = ", ".join(f"`{name}`" for name in columns)
            return f"has no column `{column}`{did_you_mean(column, columns)}; it has {listed}"
    return None


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


def _jsonl_rows(reading: _Reading, stream: TextIO) -> Iterator[Row]:
    first = True
    for number, line in enumerate(stream, start=1):
        if not (text := line.strip()):
            continue
        try:
            value = _DECODER.decode(text)
            if text.count("[") + text.count("{") > _DEEPEST:
                _check_depth(value)
        except json.JSONDecodeError as error:
            reading.fault(number, f"is not JSON: {error.msg} (column {error.colno})")
            continue
        except (ValueError, RecursionError) as error:
            reading.fault(number, f"is not JSON that can be sent: {error}")
            continue
        if isinstance(value, str):
            yield reading.row_of_text(number, value)
            continue
        if not isinstance(value, dict):
            reading.fault(number, f"must be an object or a text, not {kind_of(value)}")
            continue
        # Rows may leave a column out, but one that the first row lacks is most likely misspelt.
        if first and (message := _column_fault(reading, value)):
            reading.fault(number, message)
            return
        first = False
        if row := reading.row(number, value, _json_targets(reading, value)):
            yield row


def _json_targets(reading: _Reading, value: Mapping[str, Any]) -> dict[str, str]:
    targets = {name: target for name in value if (target := reading.target_of(name))}
    if "params" in value and "params" not in targets:
        targets["params"] = "params"
    return targets


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _check_depth(value: Any) -> None:
    layer = [value]
    for _ in range(_DEEPEST):
        layer = list(
            chain.from_iterable(
                item.values() if isinstance(item, dict) else item
                for item in layer
                if isinstance(item, dict | list)
            )
        )
        if not layer:
            return
    raise ValueError("it is nested too deeply")


_READERS: Mapping[str, Callable[[_Reading, TextIO], Iterator[Row]]] = {
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _jsonl_rows,
}
