"""From parse events to plain values with their places: keys, anchors, merges, limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from runner.documents.places import Located, Place
from runner.documents.problems import ProblemList
from runner.documents.scalars import scalar_of
from runner.errors import InputError, Problem

_MOST_NODES = 1_000_000
_DEEPEST = 64


def line_of(event: Any) -> int:
    """The line where an event starts."""
    return int(event.start_mark.line) + 1


class Builder:
    """Turns parse events into plain values with their places."""

    def __init__(self, events: Iterator[yaml.Event], file: str, faults: ProblemList) -> None:
        self._events = events
        self._file = file
        self._faults = faults
        self._anchors: dict[str, tuple[Located, int]] = {}
        self._nodes = 0
        self._depth = 0

    def fault(self, event: yaml.Event, message: str) -> None:
        """Keeps a fault at the line of an event."""
        self._faults.add(Problem(self._file, message, line_of(event)))

    def items(self) -> Iterator[Located]:
        """The items of a list one at a time; anchors inside an item end with it."""
        outer = self._anchors
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._anchors = dict(outer) if outer else {}
            self._nodes = 0
            yield self.build(event)
        self._anchors = outer

    def pairs(self, value: dict[str, Any], place: Place) -> Iterator[tuple[str, Any]]:
        """Each key of a mapping with the first event of its value, which the caller takes."""
        merged: list[Located] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            start = next(self._events)
            if key == "<<" and getattr(event, "implicit", (False,))[0]:
                merged.append(self.build(start))
                continue
            if key in place.parts:
                self.fault(event, f"the key `{key}` is written twice")
            place.parts[key] = Place(line_of(event))
            yield key, start
        for located in merged:
            self._merge(value, place, located)

    def put(self, value: dict[str, Any], place: Place, key: str, start: yaml.Event) -> None:
        """Builds the value of `key` and puts it in."""
        built = self.build(start)
        value[key] = built.value
        place.parts[key].parts = built.place.parts

    def build(self, event: Any) -> Located:
        """The value that starts with `event`."""
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        nodes_before = self._nodes
        self._count(event, 1)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            self.fault(event, f"the tag `{tag}` is not used here; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and tag is None
            built = Located(scalar_of(event.value) if plain else event.value, Place(line_of(event)))
        else:
            built = self._collection(event)
        if event.anchor:
            self._anchors[event.anchor] = (built, self._nodes - nodes_before)
        return built

    def _collection(self, event: yaml.Event) -> Located:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError([Problem(self._file, "is nested too deeply", line_of(event))])
        place = Place(line_of(event))
        if isinstance(event, yaml.MappingStartEvent):
            mapping: dict[str, Any] = {}
            for key, start in self.pairs(mapping, place):
                self.put(mapping, place, key, start)
            self._depth -= 1
            return Located(mapping, place)
        items: list[Any] = []
        while not isinstance(start := next(self._events), yaml.SequenceEndEvent):
            built = self.build(start)
            place.parts[len(items)] = built.place
            items.append(built.value)
        self._depth -= 1
        return Located(items, place)

    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        self.build(event)
        self.fault(event, "a key must be a text; put a text that begins with `{` or `[` in quotes")
        return f"<key at line {line_of(event)}>"

    def _aliased(self, event: yaml.AliasEvent) -> Located:
        if event.anchor not in self._anchors:
            self.fault(event, f"`*{event.anchor}` has no anchor `&{event.anchor}` above it"
                       " (one inside an entry of `prompts` ends with that entry)")  # fmt: skip
            return Located(None, Place(line_of(event)))
        located, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return Located(located.value, Place(line_of(event), located.place.parts))

    def _count(self, event: yaml.Event, nodes: int) -> None:
        # A few nested aliases can stand for billions of values.
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            raise InputError([Problem(self._file, "holds too many values", line_of(event))])

    def _merge(self, value: dict[str, Any], place: Place, located: Located) -> None:
        sources = located.value if isinstance(located.value, list) else [located.value]
        for source in sources:
            if not isinstance(source, dict):
                message = "`<<` takes a mapping, or a list of mappings"
                self._faults.add(Problem(self._file, message, located.place.line))
                continue
            for key, inherited in source.items():
                if key not in value:
                    value[key] = inherited
                    place.parts[key] = Place(located.place.line)
