"""Settings from their sources: config file < environment < command line, all faults told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.config.settings import KEY_VARIABLE, SHORTHANDS, Settings
from runner.documents import (
    Place,
    YamlFile,
    did_you_mean,
    fault_words,
    fill_environment,
    keys_of,
    kind_of,
    path_text,
)
from runner.errors import InputError, Problem

DEFAULT_CONFIG = Path("config.yaml")


@dataclass(frozen=True, slots=True)
class _Given:
    """A value for a dotted key and where it comes from, ready to be told in a Problem."""

    value: Any
    file: str
    line: int | None = None
    column: str | None = None

    def problem(self, message: str) -> Problem:
        """What is wrong with the value, told where it comes from."""
        return Problem(self.file, message, self.line, self.column)


def load_settings(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Settings:
    """The settings from all sources; InputError lists every fault with its place.

    `overrides`: dotted keys (`run.concurrency`) from the command line; None is not given.
    """
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    problems: list[Problem] = []
    given: dict[str, _Given] = {}
    if environ.get(KEY_VARIABLE, "").strip():
        given["api.key"] = _Given(environ[KEY_VARIABLE], KEY_VARIABLE)
    if config is not None:
        given |= _from_file(config, environ, problems)
    given |= _from_environment(environ, problems)
    for dotted, value in overrides.items():
        if value is not None:
            option = "--" + dotted.rpartition(".")[2].replace("_", "-")
            given[SHORTHANDS.get(dotted, dotted)] = _Given(value, option)
    settings = _validated(given, problems)
    if settings is None or problems:
        raise InputError(sorted(problems, key=lambda problem: problem.line or 0))
    return settings


def _validated(given: Mapping[str, _Given], problems: list[Problem]) -> Settings | None:
    values: dict[str, Any] = {}
    for dotted, each in given.items():
        section, _, key = dotted.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if isinstance(target, dict):  # a section that is no mapping is told below
            target[key] = each.value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            path = tuple(fault["loc"])
            message, names_key = fault_words(Settings, path, dict(fault))
            place = given.get(path_text(path[:2])) or given.get(path_text(path[:1]))
            if place is None:
                problems.append(Problem("settings", message, None, path_text(path)))
            elif names_key:
                problems.append(Problem(place.file, message, place.line))
            else:
                problems.append(place.problem(message))
        return None


def _from_file(
    path: Path, environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, _Given]:
    document = YamlFile(path, str(path)).read()
    value, place = document.value, document.place
    if value is not None and not isinstance(value, dict):
        message = f"must be a mapping from keys to values, not {kind_of(value)}"
        raise InputError([Problem(str(path), message, place.line)])
    given = {}
    if misplaced := [key for key in _mapping(value, "notify") if "://" in key]:
        # Told here without it: an address holds secrets, and would be shown as an unknown key.
        message = "an address stands where a key belongs; write a list: `- ` before each address"
        line = place.line_of(("notify", misplaced[0]))
        raise InputError([Problem(str(path), message, line, "notify")])
    for dotted, each, line in _leaves(value or {}, place):
        found = _Given(each, str(path), line, dotted)
        dotted = SHORTHANDS.get(dotted, dotted)
        try:
            found = replace(found, value=_filled(each, environ))
        except ValueError as error:
            if dotted == "api.key":
                continue  # without its variable there is no key, and whoever needs one says so
            problems.append(found.problem(str(error)))
        if dotted == "api.key" and isinstance(found.value, str) and not found.value.strip():
            continue  # an empty key is none: the environment's counts
        if dotted in _PATHS and isinstance(found.value, str):
            joined = found.value if found.value.startswith("~") else path.parent / found.value
            found = replace(found, value=joined)
        given[dotted] = found
    return given


_SECTIONS = {
    name: f.annotation
    for name, f in Settings.model_fields.items()
    if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel)
}
_PATHS = {name for name, f in Settings.model_fields.items() if f.annotation is Path} | {
    f"{name}.{key}"
    for name, section in _SECTIONS.items()
    for key, f in section.model_fields.items()
    if f.annotation is Path
}


def _mapping(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _leaves(value: Mapping[str, Any], place: Place) -> Iterator[tuple[str, Any, int]]:
    """(dotted key, value, line) of all that is given; a key without a value is not."""
    for name, inner in value.items():
        if name == "notify" and isinstance(inner, list | str):
            yield "notify.urls", inner, place.line_of((name,))
        elif name in _SECTIONS and isinstance(inner, dict):
            for key, leaf in inner.items():
                if leaf is not None:
                    yield f"{name}.{key}", leaf, place.line_of((name, key))
        elif inner is not None:
            yield name, inner, place.line_of((name,))


def _filled(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return fill_environment(value, environ)
    if isinstance(value, dict):
        return {key: _filled(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, environ) for inner in value]
    return value


def _variables() -> dict[str, str]:
    """The dotted key of every environment variable that is read."""
    dotted = [name for name in Settings.model_fields if name not in _SECTIONS]
    dotted += [f"{name}.{key}" for name, section in _SECTIONS.items() for key in keys_of(section)]
    known = {"RUNNER_" + key.replace(".", "_").upper(): key for key in dotted}
    return known | {f"RUNNER_{name.upper()}": key for name, key in SHORTHANDS.items()}


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, _Given]:
    variables = _variables()
    # Other programs set RUNNER_OS and the like: only our own sections can be misspelt.
    prefixes = tuple(f"RUNNER_{section.upper()}_" for section in _SECTIONS)
    given = {}
    for variable, value in environ.items():
        if variable in variables and value.strip():
            given[variables[variable]] = _Given(value, variable)
        elif variable.startswith(prefixes) and variable not in variables:
            near = did_you_mean(variable, variables)
            problems.append(Problem(variable, f"this variable is not known{near}"))
    return given
