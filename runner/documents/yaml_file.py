"""YAML files with line numbers, read event by event, so that a long list is never held whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from runner.documents.builder import Builder, line_of
from runner.documents.places import Located, Place
from runner.documents.problems import ProblemList
from runner.documents.text_file import open_text
from runner.errors import Problem

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFile:
    """One YAML file; the list under the key `streamed` is handed out item by item, never kept."""

    def __init__(self, path: Path, file: str, streamed: str | None = None) -> None:
        self._path = path
        self._file = file
        self._streamed = streamed
        self._document = Located(None, Place(1))

    def read(self) -> Located:
        """The whole document without the streamed items; the value of an empty file is None."""
        for _ in self.items():
            pass
        return self._document

    @property
    def document(self) -> Located:
        """What stands around the streamed list, once `items` has come to its end."""
        return self._document

    def items(self) -> Iterator[Located]:
        """Yields the items of the streamed list; InputError lists what is wrong with the YAML."""
        faults = ProblemList()
        with open_text(self._path, self._file) as stream:
            try:
                events = iter(yaml.parse(stream, Loader=_LOADER))
                builder = Builder(events, self._file, faults)
                yield from self._walk(events, builder)
            except yaml.YAMLError as error:
                faults.add(self._syntax_problem(error))
        faults.close()

    def _walk(self, events: Iterator[yaml.Event], builder: Builder) -> Iterator[Located]:
        next(events)  # the stream starts
        if isinstance(next(events), yaml.StreamEndEvent):
            return
        root = next(events)
        if isinstance(root, yaml.MappingStartEvent):
            value: dict[str, Any] = {}
            place = Place(line_of(root))
            for key, start in builder.pairs(value, place):
                if key == self._streamed and isinstance(start, yaml.SequenceStartEvent):
                    value[key] = []
                    yield from builder.items()
                else:
                    builder.put(value, place, key, start)
            self._document = Located(value, place)
        else:
            self._document = builder.build(root)
        next(events)  # the document ends
        rest = next(events)
        if not isinstance(rest, yaml.StreamEndEvent):
            builder.fault(rest, "a second document starts here; one file holds one document")

    def _syntax_problem(self, error: yaml.YAMLError) -> Problem:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        if mark is None:
            return Problem(self._file, "is not YAML: it holds a control character")
        number = int(mark.line)
        with self._path.open(encoding="utf-8-sig") as stream:
            text = next((line for i, line in enumerate(stream) if i == number), "")
        return Problem(self._file, _syntax_words(error, text), number + 1)


def _syntax_words(error: yaml.YAMLError, text: str) -> str:
    indent = text[: len(text) - len(text.lstrip())]
    if "\t" in indent:
        return "is indented with a tab; YAML wants spaces"
    if re.search(r"(:|-|^)\s+\{\{", text):
        return "a text that begins with `{{` must stand in quotes"
    problem = str(getattr(error, "problem", error))
    if "cannot start any token" in problem:
        return "a text cannot begin with this character; put it in quotes"
    if "mapping values are not allowed" in problem:
        return (
            "a `: ` does not belong here; put a text that holds one in quotes, or mend the indent"
        )
    if "end of stream" in problem:
        return "the file ends inside a quoted text; is a closing quote missing?"
    if "expected ',' or" in problem:
        return "a bracket was opened and is not closed, or a comma is missing"
    if "expected" in problem:
        return "does not fit what is above; check the indent, the `-` and the `:`"
    return f"is not YAML: {problem}"
