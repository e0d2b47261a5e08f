"""Where a job's file goes: a name that can never leave the output directory.

A template is a Python format string. Its `/` make folders; a value can not. `{n}` and `{ext}`
stay open until the file is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Any

from runner.manifest.template import plain_text

BUILTIN_FIELDS = ("name", "id", "model", "index", "repeat", "n", "tag", "ext")
_OPEN_FIELDS = ("n", "ext")

_UNSAFE = re.compile(r'[<>:"|?*/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_SPEC = re.compile(r"(?:[^{}]?[<>=^])?[-+ ]?#?0?\d{0,3}[,_]?(?:\.\d{1,3})?[a-zA-Z%]?")
_NUMBER_SPEC = re.compile(r"(?:0?\d{1,2})?d?")
MOST_VALUE_BYTES = 120
# A file system takes 255; the rest is for `{n}`, `{ext}` and what marks a file as unfinished.
_MOST_COMPONENT_BYTES = 230


class NamingError(ValueError):
    """A template of names is wrong; the text is a message for the user."""


class UnknownField(NamingError):
    """A job has no value for a field of the template."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    spec: str
    conversion: str | None


class OutputTemplate:
    """A checked template of file names; `fields` are the names that a job has to supply."""

    def __init__(self, template: str) -> None:
        self._parts = _parts(template)
        _check_shape(template, self._parts)
        names = [part.name for part in self._parts if isinstance(part, _Field)]
        self.fields = tuple(dict.fromkeys(name for name in names if name not in _OPEN_FIELDS))

    def format(self, value_of: Callable[[str], Any]) -> str:
        """The name of a job's file as a format string over `n` and `ext` alone.

        `value_of` gives the value of a field and raises UnknownField for those it lacks.
        """
        text = "".join(
            part if isinstance(part, str) else _safe_part(part, value_of(part.name))
            for part in self._parts
        )
        if len(text) * 4 > _MOST_COMPONENT_BYTES:
            for component in text.split("/"):
                if len(component.encode()) > _MOST_COMPONENT_BYTES:
                    raise NamingError(f"gives a name of more than {_MOST_COMPONENT_BYTES} bytes")
        return text

    @property
    def prefix_of_id(self) -> str | None:
        """The text before `{id}` when nothing but it varies and `.{ext}` follows."""
        match self._parts:
            case [str(text), _Field("id", "", None), ".{ext}"]:
                return text
        return None

    def with_name(self, name: str) -> OutputTemplate:
        """The same template with the manifest's name put in."""
        named = object.__new__(OutputTemplate)
        parts: list[str | _Field] = []
        for part in self._parts:
            if isinstance(part, _Field) and part.name == "name":
                part = _safe_part(part, name)
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        named._parts = parts
        named.fields = tuple(field for field in self.fields if field != "name")
        return named


def _parts(template: str) -> list[str | _Field]:
    parts: list[str | _Field] = []
    try:
        pieces = list(Formatter().parse(template))
    except ValueError:
        raise NamingError(
            "has a `{` or `}` without its partner; a literal one is doubled"
        ) from None
    for text, name, spec, conversion in pieces:
        literal = _escaped(text)
        if name in _OPEN_FIELDS:
            _check_field(name, spec or "", conversion)
            literal += f"{{{name}:{spec}}}" if spec else f"{{{name}}}"
        if literal and parts and isinstance(parts[-1], str):
            parts[-1] += literal
        elif literal:
            parts.append(literal)
        if name is not None and name not in _OPEN_FIELDS:
            _check_field(name, spec or "", conversion)
            parts.append(_Field(name, spec or "", conversion))
    return parts


def _check_field(name: str, spec: str, conversion: str | None) -> None:
    if not name or name.isdigit():
        raise NamingError("has a field without a name; write for instance `{id}`")
    if "." in name or "[" in name:
        raise NamingError(f"looks inside a value with `{{{name}}}`; a field is a plain name")
    if conversion not in (None, "s"):
        raise NamingError(f"cannot convert `{{{name}!{conversion}}}`; leave out `!{conversion}`")
    allowed = {"n": _NUMBER_SPEC, "ext": re.compile("")}.get(name, _SPEC)
    if not allowed.fullmatch(spec):
        raise NamingError(f"has a format `:{spec}` that `{{{name}}}` does not take")


def _check_shape(template: str, parts: list[str | _Field]) -> None:
    if template.startswith(("/", "~")) or re.match(r"[A-Za-z]:", template):
        raise NamingError("must be relative: names stay inside the output directory")
    literals = "".join(part for part in parts if isinstance(part, str))
    if "\\" in literals:
        raise NamingError("has a `\\`; folders are separated by `/`")
    if any(ord(character) < 32 or ord(character) == 127 for character in literals):
        raise NamingError("has a control character")
    shape = "".join(part if isinstance(part, str) else "*" for part in parts)
    for component in shape.split("/"):
        if not component:
            raise NamingError("has a folder or file without a name")
        if not component.strip(". "):
            raise NamingError(f"must not have a part `{component}`: names stay inside the output")


def _safe_part(field: _Field, value: Any) -> str:
    if field.spec:
        shown = value if isinstance(value, int | float) else plain_text(value)
        try:
            text = format(shown, field.spec)
        except ValueError:
            raise NamingError(
                f"cannot write `{plain_text(value)}` as `{{{field.name}:{field.spec}}}`"
            ) from None
    else:
        text = plain_text(value)
    return _escaped(safe_value(text))


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}") if "{" in text or "}" in text else text


def safe_value(text: str) -> str:
    """A value as part of one file name: no separators, no dots at the ends, at most 120 bytes."""
    text = _UNSAFE.sub("_", text).strip(". ")
    if len(text) * 4 > MOST_VALUE_BYTES:
        text = text.encode()[:MOST_VALUE_BYTES].decode(errors="ignore").rstrip(". ")
    return text or "_"
