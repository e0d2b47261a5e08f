"""The kinds of values that settings take: durations, origins, keys, paths, amounts."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from runner.documents import kind_of

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


def no_boolean(value: object) -> object:
    """The value, unless it is a boolean: YAML's `true` is no 1."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {kind_of(value)}")
    return value


def listed(value: object) -> object:
    """A text's words as a list, as environment variables have to write it; other values as they are."""
    return value.split() if isinstance(value, str) else value


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
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "exclusiveMinimum": 0,
            "pattern": rf"^({_DURATION_PART.pattern})+$|^{_PLAIN_SECONDS.pattern}$",
            "examples": ["90s", "15m", "8h"],
        }
    ),
]
"""Seconds, written with a unit."""

Count = Annotated[int, Field(ge=1), BeforeValidator(no_boolean)]
FilePath = Annotated[Path, AfterValidator(_path)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(no_boolean)]
Origin = Annotated[
    str,
    AfterValidator(_origin),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^/?#@\s]+/?$"}),
]
Key = Annotated[SecretStr | None, BeforeValidator(_key)]
