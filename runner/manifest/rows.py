"""A row of a prompt file: its cells put where the entry that reads it wants them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.documents import ProblemList, did_you_mean, kind_of
from runner.errors import Problem
from runner.manifest.definitions import ROW_TARGETS, Entry, parameter_of, repeat_of, tags_of

NOTHING: Mapping[str, Any] = {}


class Row(NamedTuple):
    """One row as an entry asks for it: `columns` can be referred to, `meta` is kept with the job.

    `source` names the row where it is no line of a file.
    """

    line: int
    prompt: str | None = None
    id: str | None = None
    tags: tuple[str, ...] = ()
    repeat: int | None = None
    params: Mapping[str, Any] = NOTHING
    columns: Mapping[str, Any] = NOTHING
    meta: Mapping[str, Any] = NOTHING
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One pass over a file on behalf of an entry."""

    shown: str
    entry: Entry
    problems: ProblemList
    prompt_needed: bool

    def fault(self, line: int | None, message: str, column: str | None = None) -> None:
        """Tells what is wrong with a line of the file."""
        self.problems.add(Problem(self.shown, message, line, column))

    def target_of(self, column: str) -> str | None:
        """What a column is: prompt, id, tags, repeat, params, params.<name>, file.<name>; None: metadata."""
        entry = self.entry
        mapped = entry.columns.get(column)
        if mapped:
            return mapped
        own = column in ROW_TARGETS or parameter_of(column) is not None
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
                name = parameter_of(target)
                if target == "tags":
                    tags += tags_of(value)
                elif target == "params":
                    params = {**_object(value), **params}
                elif name is not None:
                    params[name] = value if target.startswith("params.") else {"file": _text(value)}
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

    def column_fault(self, columns: Collection[str]) -> str | None:
        """What is wrong if the entry names a column that is not among `columns`."""
        for column in self.entry.columns:
            if column not in columns:
                listed = ", ".join(f"`{name}`" for name in columns)
                return f"has no column `{column}`{did_you_mean(column, columns)}; it has {listed}"
        return None


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
