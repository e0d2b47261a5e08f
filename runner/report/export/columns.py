"""One type and one name for every column of a dataset, whatever the jobs of a manifest differ in.

Loaders read a JSON Lines file piece by piece and take the types of its beginning for those of the whole:
a column may not be a number here and a text there, nor begin with nothing but nulls. Source: the
`imagefolder` builder of `datasets` (packaged_modules/folder_based_builder).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from runner.characters import mended
from runner.report.export.rows import Field, Fields, Item

# A loader reads some ten megabytes before it settles the types; no 1,000 rows are larger.
EARLY_ROWS = 1000
_LONG_BITS = 63
# Loaders take such texts for moments in time.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[ T][\d:.]+(?:Z|[+-][\d:]+)?)?")


class Kind(StrEnum):
    """The type of a column."""

    TRUTH = "truth"
    WHOLE = "whole number"
    NUMBER = "number"
    TEXT = "text"
    TEXTS = "list of texts"


OWN_KINDS: Mapping[str, Kind] = {
    "id": Kind.TEXT,
    "prompt": Kind.TEXT,
    "manifest": Kind.TEXT,
    "model": Kind.TEXT,
    "index": Kind.WHOLE,
    "repeat": Kind.WHOLE,
    "seed": Kind.WHOLE,
    "tags": Kind.TEXTS,
    "cost": Kind.NUMBER,
    "request_id": Kind.TEXT,
    "sha256": Kind.TEXT,
}
"""The columns that every dataset has, in their order."""

# They stand among the dataset's own columns.
_TAKEN_PARAMETERS = frozenset({("param", "prompt"), ("param", "seed")})
# The picture itself, and what the formats add.
_RESERVED = frozenset({*OWN_KINDS, "file_name", "path", "image", "video", "audio", "output"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a dataset: where each comes from, its name and its type."""

    kinds: Mapping[Field, Kind]
    names: Mapping[Field, str]
    # Written as texts that are never null, for a part of the dataset has no value in them.
    filled: frozenset[Field] = frozenset()

    def row(self, fields: Fields) -> dict[str, Any]:
        """The fields of an item under their names and in their types; null where it has none."""
        row = {}
        for where, name in self.names.items():
            value = fields[where[0]].get(where[1])
            if value is None and where in self.filled:
                value = ""
            row[name] = _as(self.kinds[where], value)
        return row


@dataclass(slots=True)
class Survey:
    """Looks at all items of one part of a dataset and remembers what its columns hold."""

    items: int = 0
    kinds: dict[Field, Kind | None] = field(default_factory=dict)
    # The first item that shows a column's type, and how many came before it.
    witnesses: dict[Field, tuple[int, tuple[int, int]]] = field(default_factory=dict)
    _settled: dict[Field, type] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Takes an item into account."""
        for source, values in item.fields().items():
            for name, value in values.items():
                # Nothing more can be learnt from it.
                if type(value) is not self._settled.get((source, name)):
                    self._look_at((source, name), value, item)
        self.items += 1

    def _look_at(self, where: Field, value: Any, item: Item) -> None:
        if where in _TAKEN_PARAMETERS:
            return
        kind = _both(self.kinds.get(where), _kind_of(value))
        self.kinds[where] = kind
        if where not in self.witnesses and _shows_type(value):
            self.witnesses[where] = (self.items, item.place)
        if kind is Kind.TEXT and where in self.witnesses:
            self._settled[where] = type(value)

    def late_witnesses(self, columns: Columns) -> list[tuple[int, int]]:
        """Places of items that have to be written first, so that a loader sees every type early."""
        late = {
            place: None
            for where, (position, place) in self.witnesses.items()
            if position >= EARLY_ROWS and where in columns.names
        }
        return sorted(late)


def columns_of(surveys: Iterable[Survey], *, typed: bool = False) -> Columns:
    """The columns that the parts of a dataset have in common.

    `typed`: the format tells types itself. Otherwise a column without any value is left out, and one
    that a part has no value for becomes a text, for that part could not tell its type.
    """
    parts = [survey for survey in surveys if survey.items]
    kinds: dict[Field, Kind | None] = {("", name): None for name in OWN_KINDS}
    for part in parts:
        for where, kind in part.kinds.items():
            kinds[where] = _both(kinds.get(where), kind)
    filled: set[Field] = set()
    final: dict[Field, Kind] = {}
    for where, kind in sorted(kinds.items(), key=lambda each: _order(each[0])):
        everywhere = all(part.kinds.get(where) for part in parts)
        if typed:
            final[where] = kind or (OWN_KINDS[where[1]] if not where[0] else Kind.TEXT)
        elif kind is not None:
            final[where] = kind if everywhere else Kind.TEXT
            filled |= set() if everywhere else {where}
    return Columns(final, _names(final), frozenset(filled))


def _order(where: Field) -> tuple[int, str]:
    source, name = where
    if not source:
        return list(OWN_KINDS).index(name), ""
    return len(OWN_KINDS) + (source == "meta"), name


def _names(fields: Iterable[Field]) -> dict[Field, str]:
    names: dict[Field, str] = {}
    taken: set[str] = set()
    for where in fields:
        source, name = where
        if source and (name in _RESERVED or name in taken):
            name = f"{source}_{name}"
        # `mask_file_name` would be read as the name of a picture.
        while name in taken or re.search(r"(^|_)file_names?$", name):
            name += "_"
        names[where] = name
        taken.add(name)
    return names


def _kind_of(value: Any) -> Kind | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return Kind.TRUTH
    if isinstance(value, int):
        return Kind.WHOLE if value.bit_length() <= _LONG_BITS else Kind.TEXT
    if isinstance(value, float):
        return Kind.NUMBER if math.isfinite(value) else Kind.TEXT
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return Kind.TEXTS
    return Kind.TEXT


def _both(one: Kind | None, other: Kind | None) -> Kind | None:
    if one is None or other is None or one is other:
        return one or other
    return Kind.NUMBER if {one, other} == {Kind.WHOLE, Kind.NUMBER} else Kind.TEXT


def _shows_type(value: Any) -> bool:
    """Whether a loader that sees this value knows the type of its column."""
    if isinstance(value, str):
        return not _MOMENT.fullmatch(value)
    return value is not None and value != []


def _as(kind: Kind, value: Any) -> Any:
    if value is None:
        return [] if kind is Kind.TEXTS else None
    if kind is Kind.NUMBER:
        return float(value)
    if kind is not Kind.TEXT:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return mended(text)
