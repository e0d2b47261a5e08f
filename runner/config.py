"""Settings: defaults < config file < environment < command line, as one frozen value."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
)

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
KEY_VARIABLE = "SEGMIND_API_KEY"

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_PLAIN_SECONDS = re.compile(r"\d+(?:\.\d+)?")


def parse_duration(value: object) -> float:
    """Seconds of `90s`, `15m`, `1h30m`, `500ms` or a plain number; ValueError otherwise."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if _PLAIN_SECONDS.fullmatch(text):
        seconds = float(text)
    elif re.fullmatch(f"(?:{_DURATION_PART.pattern})+", text):
        seconds = sum(float(n) * _UNITS_S[unit] for n, unit in _DURATION_PART.findall(text))
    else:
        shown = f"`{value}`" if isinstance(value, str) else kind_of(value)
        raise ValueError(f"must be a duration like `90s`, `15m` or `1h30m`, not {shown}")
    if not 0 < seconds < float("inf"):
        raise ValueError("must be longer than nothing and end some time")
    return seconds


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {kind_of(value)}")
    return value


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError(f"`{value}` is no address like `https://api.segmind.com`")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be scheme, host and port alone, like `https://api.segmind.com`")
    if parts.scheme == "http" and not _is_near(host):
        raise ValueError(f"must begin with https: the key would travel to `{host}` in clear")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _key(value: object) -> object:
    if not isinstance(value, str):
        return value
    key = value.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("holds characters that no key has; was it copied whole?")
    return key or None


def _path(value: Path) -> Path:
    if not str(value).isprintable():
        raise ValueError("holds characters that no path should have")
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError(f"`{value}` begins with a home folder that is not known") from None


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["90s", "15m", "8h"]}),
]
"""Seconds, written with a unit."""

Count = Annotated[int, Field(ge=1), BeforeValidator(_no_boolean)]
FilePath = Annotated[Path, AfterValidator(_path)]
Dollars = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, allow_inf_nan=False)]
Origin = Annotated[str, AfterValidator(_origin)]
Key = Annotated[SecretStr | None, BeforeValidator(_key)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False
    )


class ApiSettings(_Section):
    """Where the API is and how it is asked."""

    base_url: Origin = Field("https://api.segmind.com", description="Origin of the API.")
    history_url: Origin = Field(
        "https://api.spotprod.segmind.com", description="Origin of the request history."
    )
    key: Key = Field(None, description=f"The API key; by default taken from {KEY_VARIABLE}.")
    rpm: Count | None = Field(
        None, description="Requests per minute of the account; learned when it is absent."
    )
    timeout_s: Duration = Field(
        60.0, alias="timeout", description="How long one request may take in all."
    )


class RunSettings(_Section):
    """How a run goes about its work."""

    concurrency: Count = Field(64, description="Most jobs in flight at a time.")
    submit_attempts: Count = Field(
        5, description="Answered refusals after which a job is given up."
    )
    download_attempts: Count = Field(5, description="Tries for one file within a run.")
    on_doubt: Literal["reconcile", "hold", "resubmit"] = Field(
        "reconcile", description="What becomes of a submit whose answer never came."
    )
    on_expired: Literal["recover", "hold", "resubmit"] = Field(
        "recover", description="What becomes of a job whose hour passed before it was collected."
    )
    budget: Dollars | None = Field(
        None, description="Most that one run may spend, all that is in flight counted."
    )
    prices: dict[str, Dollars] = Field(
        {}, description="What a job of a model costs, until the ledger knows it better."
    )
    breaker: Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)] = Field(
        10, description="Equal final errors in a row that stop a model; 0 never stops one."
    )
    doubt_wait_s: Duration = Field(
        600.0,
        alias="doubt_wait",
        description="How long a request that is missing in the history stays inconclusive.",
    )
    retention_s: Duration = Field(
        3600.0, alias="retention", description="How long the API keeps a result after its submit."
    )
    drain_s: Duration = Field(
        900.0, alias="drain", description="How long a stopped run waits for what is in flight."
    )


class Settings(_Section):
    """Everything a run can be told, whole and checked."""

    api: ApiSettings = Field(ApiSettings.model_validate({}), description="The API.")
    run: RunSettings = Field(RunSettings.model_validate({}), description="The run.")
    ledger: FilePath = Field(Path("runner.db"), description="The file that remembers every job.")
    output: FilePath = Field(Path("output"), description="The folder that results are saved in.")


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file, from the definitions that reading uses."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Config"}


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
            given[dotted] = _Given(value, option)
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
    for dotted, each, line in _leaves(value or {}, place):
        found = _Given(each, str(path), line, dotted)
        try:
            found = _Given(_filled(each, environ), str(path), line, dotted)
        except ValueError as error:
            problems.append(found.problem(str(error)))
        if dotted == "api.key" and isinstance(found.value, str) and not found.value.strip():
            continue  # an empty key is none: the environment's counts
        if dotted in _PATHS and isinstance(found.value, str):
            joined = found.value if found.value.startswith("~") else path.parent / found.value
            found = _Given(joined, str(path), line, dotted)
        given[dotted] = found
    return given


_PATHS = {name for name, f in Settings.model_fields.items() if f.annotation is Path}
_SECTIONS = {
    name: f.annotation
    for name, f in Settings.model_fields.items()
    if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel)
}


def _leaves(value: Mapping[str, Any], place: Place) -> Iterator[tuple[str, Any, int]]:
    """(dotted key, value, line) of all that is given; a key without a value is not."""
    for name, inner in value.items():
        if name in _SECTIONS and isinstance(inner, dict):
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
    return {"RUNNER_" + key.replace(".", "_").upper(): key for key in dotted}


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
