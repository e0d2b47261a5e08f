"""What pydantic finds wrong with a document, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.documents.places import Key, Place, path_text
from runner.documents.problems import did_you_mean
from runner.documents.scalars import kind_of
from runner.errors import Problem


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
