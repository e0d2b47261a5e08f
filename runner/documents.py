"""YAML files with line numbers, and faults told in plain words.

Scalars follow YAML 1.2's core schema: only `true` and `false` are booleans, `16:9`, `no` and
`2026-01-31` stay text. Keys are always text. There are no custom tags.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import BaseModel, ValidationError

from runner.errors import InputError, Problem

Key = str | int

MOST_PROBLEMS = 20
"""So many faults are listed at once; what is beyond is only said to exist."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_NODES = 1_000_000
_DEEPEST = 64

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_MAYBE_SPECIAL = frozenset("+-.0123456789~nNtTfF")


def scalar_of(text: str) -> Any:
    """The value of an unquoted YAML 1.2 scalar: null, boolean, number, or the text itself."""
    if text and text[0] not in _MAYBE_SPECIAL:
        return text
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError:  # more digits than Python cares to read
        pass
    return text


def kind_of(value: object) -> str:
    """What a value is, in the words of somebody who writes YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return "empty" if value is None else kinds.get(type(value), "something else")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean …?` for the known word nearest to `word`, or nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f", did you mean `{by_folded[near[0]]}`?" if near else ""


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


class ProblemList:
    """Collects faults, each told once; raises InputError when the list is full or at `close`."""

    def __init__(self) -> None:
        self._problems: dict[object, Problem] = {}

    def add(self, problem: Problem, same_as: object = None) -> None:
        """Keeps a fault; one with the same `same_as` (default: the whole fault) is told once."""
        key = problem if same_as is None else same_as
        if key in self._problems:
            return
        if len(self._problems) == MOST_PROBLEMS:
            raise InputError(self._problems.values(), more=True)
        self._problems[key] = problem

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems.values())

    def extend(self, problems: Iterable[Problem]) -> None:
        """Keeps several faults."""
        for problem in problems:
            self.add(problem)

    def close(self) -> None:
        """Raises InputError if there was any fault, in the order of its lines."""
        if self._problems:
            problems = list(self._problems.values())
            if len({problem.file for problem in problems}) == 1:
                problems.sort(key=lambda problem: problem.line or 0)
            raise InputError(problems)


@contextmanager
def open_text(path: Path, file: str, newline: str | None = None) -> Iterator[TextIO]:
    """Opens a UTF-8 file; whatever keeps it from being read is an InputError that names `file`."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError:
        message = "is not UTF-8 text; save it with the encoding UTF-8"
        raise InputError([Problem(file, message, _undecodable_line(path))]) from None
    except FileNotFoundError:
        raise InputError([Problem(file, missing_file(path))]) from None
    except IsADirectoryError:
        raise InputError([Problem(file, "is a folder, not a file")]) from None
    except OSError as error:
        raise InputError([Problem(file, f"cannot be read: {error.strerror or error}")]) from None


def missing_file(path: Path) -> str:
    """That there is no such file, with the nearest name in its folder."""
    try:
        names = sorted(found.name for found in path.parent.iterdir())
    except OSError:
        return "there is no such file"
    return f"there is no such file{did_you_mean(path.name, names)}"


def _undecodable_line(path: Path) -> int | None:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return None


_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")


def fill_environment(text: str, environ: Mapping[str, str]) -> str:
    """Puts environment variables in for `${NAME}` (`$${` stands for `${`); ValueError if unset."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "${"
        if not environ.get(name):
            raise ValueError(f"the environment variable `{name}` is not set")
        return environ[name]

    return _REFERENCE.sub(value, text)


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
                builder = _Builder(events, self._file, faults)
                yield from self._walk(events, builder)
            except yaml.YAMLError as error:
                faults.add(self._syntax_problem(error))
        faults.close()

    def _walk(self, events: Iterator[yaml.Event], builder: _Builder) -> Iterator[Located]:
        next(events)  # the stream starts
        if isinstance(next(events), yaml.StreamEndEvent):
            return
        root = next(events)
        if isinstance(root, yaml.MappingStartEvent):
            value: dict[str, Any] = {}
            place = Place(_line(root))
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


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


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


class _Builder:
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
        self._faults.add(Problem(self._file, message, _line(event)))

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
            place.parts[key] = Place(_line(event))
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
            built = Located(scalar_of(event.value) if plain else event.value, Place(_line(event)))
        else:
            built = self._collection(event)
        if event.anchor:
            self._anchors[event.anchor] = (built, self._nodes - nodes_before)
        return built

    def _collection(self, event: yaml.Event) -> Located:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError([Problem(self._file, "is nested too deeply", _line(event))])
        place = Place(_line(event))
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
        return f"<key at line {_line(event)}>"

    def _aliased(self, event: yaml.AliasEvent) -> Located:
        if event.anchor not in self._anchors:
            self.fault(event, f"`*{event.anchor}` has no anchor `&{event.anchor}` above it"
                       " (one inside an entry of `prompts` ends with that entry)")  # fmt: skip
            return Located(None, Place(_line(event)))
        located, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return Located(located.value, Place(_line(event), located.place.parts))

    def _count(self, event: yaml.Event, nodes: int) -> None:
        # A few nested aliases can stand for billions of values.
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            raise InputError([Problem(self._file, "holds too many values", _line(event))])

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


def path_text(path: Iterable[Key]) -> str:
    """A key path as it is read aloud: `params.seed`, `tags[0]`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def validation_problems(
    error: ValidationError, model: type[BaseModel], file: str, place: Place
) -> list[Problem]:
    """The faults that pydantic found in a document, with lines and in plain words."""
    problems = []
    for fault in error.errors(include_url=False):
        path = tuple(key for key in fault["loc"] if key != "[key]")
        message, names_key = fault_words(model, path, fault)
        column = None if names_key else path_text(path) or None
        problems.append(Problem(file, message, place.line_of(path), column))
    return sorted(problems, key=lambda problem: problem.line or 0)


def fault_words(
    model: type[BaseModel], path: tuple[Key, ...], fault: Mapping[str, Any]
) -> tuple[str, bool]:
    """One fault in plain words, and whether they name the key themselves."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        *above, key = path
        return (
            f"unknown key `{path_text(path)}`{did_you_mean(str(key), keys_of(model, above))}",
            True,
        )
    if kind == "missing":
        return f"`{path_text(path)}` is missing", True
    if kind == "value_error":
        return str(context["error"]), False
    given = fault["input"]
    for limit, words in _LIMITS.items():
        if limit in context:
            return f"must be {words} {context[limit]}, not {given}", False
    wanted = next((words for start, words in _WANTED.items() if kind.startswith(start)), None)
    if wanted is None:
        return str(fault["msg"]), False
    return f"must be {wanted}, not {kind_of(given)}", False


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_WANTED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "path": "a path",
    "finite_number": "a finite number",
}


def keys_of(model: type[BaseModel], path: Iterable[Key] = ()) -> list[str]:
    """The keys that a definition knows at `path`, as users write them."""
    for key in path:
        fields = {f.alias or name: f.annotation for name, f in model.model_fields.items()}
        inner = fields.get(str(key))
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [f.alias or name for name, f in model.model_fields.items()]
