"""What a completed result holds: files to fetch, texts and data to write.

Keys vary by model: whatever looks like a medium is taken, and nothing else is assumed. Source: "The
result" of the API's facts page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.characters import mended

# They carry the request's own links and inputs, never what it made.
_NOT_MEDIA = frozenset(
    {"status", "request_id", "metrics", "prompt", "timings", "input", "inputs", "request_body"}
)
# A medium on the API's own host, named without it.
_ROOTED = re.compile(
    r"/[^\s?#]+\.(png|jpe?g|webp|gif|avif|mp4|webm|mov|mp3|wav|flac|ogg|glb)(\?\S*)?"
)
_OWN_LINKS = frozenset({"status_url", "response_url", "poll_url", "webhook_url"})


@dataclass(frozen=True, slots=True)
class Medium:
    """A file to fetch; `url` is http, https, data, or a path on the API's own host."""

    url: str


@dataclass(frozen=True, slots=True)
class Text:
    """Generated text."""

    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """Any other JSON value."""

    value: Any


Output = Medium | Text | Data


def outputs_of(body: Any) -> list[Output]:
    """The outputs of a result body in their order, each medium once; empty when there are none."""
    if not isinstance(body, dict):
        return []
    found = list(_from_output(body.get("output")))
    for name, value in body.items():
        if name != "output" and name not in _NOT_MEDIA:
            found.extend(_from_media(value))
    once: dict[str, Output] = {}
    for output in found:
        once.setdefault(output.url if isinstance(output, Medium) else repr(output), output)
    return list(once.values())


def _from_output(value: Any) -> Iterator[Output]:
    if value is None or value in ("", [], {}):
        return
    if isinstance(value, str):
        yield from _from_text(value)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        for item in value:
            yield from _from_text(item)
    else:
        media = list(_from_media(value))
        yield from media or [Data(value)]


def _from_text(value: str) -> Iterator[Output]:
    if _is_url(value):
        yield Medium(value.strip())
        return
    for part in map(mended, _workflow_values(value)):
        yield Medium(part.strip()) if _is_url(part) else Text(part)


def _workflow_values(value: str) -> list[str]:
    """The values of a workflow's `[{"keyname", "value"}]` or of a list of links, or the text itself."""
    if not value.lstrip().startswith("["):
        return [value]
    try:
        rows = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    if isinstance(rows, list) and rows and all(_is_url(row) for row in rows):
        return rows
    if not isinstance(rows, list) or not all(isinstance(r, dict) and "value" in r for r in rows):
        return [value]
    flat: list[str] = []
    for row in rows:
        items = row["value"] if isinstance(row["value"], list) else [row["value"]]
        flat.extend(item if isinstance(item, str) else json.dumps(item) for item in items)
    return flat or [value]


def _from_media(value: Any) -> Iterator[Output]:
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            continue
        for name, url in item.items():
            is_link = name == "url" or (name.endswith("_url") and name not in _OWN_LINKS)
            if is_link and _is_url(url):
                yield Medium(url.strip())


def _is_url(value: Any) -> bool:
    if not isinstance(value, str) or len(value.split(maxsplit=1)) != 1:
        return False
    address = value.strip().lower()
    return address.startswith(("http://", "https://", "data:")) or bool(_ROOTED.fullmatch(address))
