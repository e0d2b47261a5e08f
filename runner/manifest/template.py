r"""`{{name}}` in texts: which names a text refers to, and the text with their values put in.

`\{{` stands for a literal `{{`. Values are put in once: braces inside a value are only text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"\\\{\{|\{\{\s*([^{}]*?)\s*\}\}|\{\{(?!\{)")


class TemplateError(ValueError):
    """A placeholder is malformed; the text is a message for the user."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text cut at its placeholders: `texts[0] names[0] texts[1] names[1] … texts[-1]`."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Template:
        """Cuts a text at its placeholders; TemplateError if one is empty or never closed."""
        if "{{" not in text:
            return Template((text,), ())
        texts, names, start, literal = [], [], 0, ""
        for match in _TOKEN.finditer(text):
            literal += text[start : match.start()]
            start = match.end()
            if match[0] == r"\{{":
                literal += "{{"
            elif match[1]:
                texts.append(literal)
                names.append(match[1])
                literal = ""
            elif match[1] is None:
                raise TemplateError(r"`{{` is never closed; a literal one is written `\{{`")
            else:
                raise TemplateError(r"`{{}}` names nothing; a literal `{{` is written `\{{`")
        return Template((*texts, literal + text[start:]), tuple(names))

    def fill(self, values: Mapping[str, Any], text_of: Callable[[Any], str] | None = None) -> str:
        """The text with every name's value put in, each made a text by `text_of`."""
        if not self.names:
            return self.texts[0]
        text_of = text_of or plain_text
        filled = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            filled += (text_of(values[name]), text)
        return "".join(filled)


def escape(text: str) -> str:
    r"""A template that stands for exactly this text."""
    return text.replace("{{", r"\{{")


def plain_text(value: Any) -> str:
    """A value as it reads in a text: `7`, `true`, `a, b` as written, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def texts_in(value: Any) -> Iterator[str]:
    """Every text inside a parameter's value that holds `{{`."""
    if isinstance(value, str):
        if "{{" in value:
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)


def names_in(value: Any) -> tuple[str, ...]:
    """The names that a parameter's value refers to, however deep."""
    return tuple(name for text in texts_in(value) for name in Template.parse(text).names)


def fill_value(value: Any, values: Mapping[str, Any]) -> Any:
    """A parameter's value with the placeholders of all its texts filled."""
    if isinstance(value, str):
        return Template.parse(value).fill(values) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: fill_value(inner, values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fill_value(inner, values) for inner in value]
    return value
