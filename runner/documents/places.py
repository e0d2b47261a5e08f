"""Values with the lines where they were written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Key = str | int


@dataclass(slots=True)
class Place:
    """The line where a value is written, and the places of what is inside it."""

    line: int
    parts: dict[Key, Place] = field(default_factory=dict)

    def line_of(self, path: Iterable[Key]) -> int:
        """The line of the deepest part of `path` that was written."""
        place = self
        for key in path:
            if key not in place.parts:
                break
            place = place.parts[key]
        return place.line


@dataclass(frozen=True, slots=True)
class Located:
    """A value that was read, with where it was written."""

    value: Any
    place: Place


def path_text(path: Iterable[Key]) -> str:
    """A key path as it is read aloud: `params.seed`, `tags[0]`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
