"""What makes a job the same job: its id, from its content or as given by the user."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from json.encoder import encode_basestring  # the C one where there is one
from typing import Any

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
_DIGITS = 16
_ID = re.compile(r"\w[\w.-]*( +[\w.-]+)*")
_UNSAFE_RUN = re.compile(r"[^\w.-]+")
MOST_ID_BYTES = 120
_MOST_SLUG_BYTES = 60


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces; ValueError for NaN and infinity."""
    return _ENCODER.encode(value)


def content_id(name: str, model: str, params: Mapping[str, Any], repeat: int) -> str:
    """The id of a request: 16 hex digits over manifest name, model, parameters and repeat."""
    return _digest(canonical_json([name, model, params, repeat]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


class PromptIdentity:
    """`content_id` for requests that differ in nothing but the prompt and the repeat."""

    def __init__(self, name: str, model: str, params: Mapping[str, Any]) -> None:
        before = {key: value for key, value in params.items() if key < "prompt"}
        after = {key: value for key, value in params.items() if key > "prompt"}
        self._head = canonical_json([name, model, before])[:-2] + ("," if before else "")
        self._head += '"prompt":'
        self._tail = ("," if after else "") + canonical_json(after)[1:] + ","

    def content_id(self, prompt: str, repeat: int) -> str:
        """The id of the request with this prompt."""
        return _digest(f"{self._head}{encode_basestring(prompt)}{self._tail}{repeat}]")


def repeat_id(id_: str, repeat: int) -> str:
    """The id of one repeat of an explicitly named job: `id`, `id-r1`, `id-r2`, …"""
    return f"{id_}-r{repeat}" if repeat else id_


def slug(text: str) -> str:
    """A text as part of an id: `16:9` is `16x9`, other unsafe characters become `-`."""
    safe = _UNSAFE_RUN.sub("-", text.replace(":", "x")).strip("-.")
    return safe.encode()[:_MOST_SLUG_BYTES].decode(errors="ignore").rstrip("-.") or "_"


def id_fault(id_: str) -> str | None:
    """What keeps a text from being an id, or None: it becomes a file's name."""
    if len(id_.encode(errors="replace")) > MOST_ID_BYTES:
        return f"the id is longer than {MOST_ID_BYTES} bytes"
    if _ID.fullmatch(id_) and not id_.endswith("."):
        return None
    better = _UNSAFE_RUN.sub("-", id_).strip("-.")
    instead = f"; `{better}` would do" if _ID.fullmatch(better) else ""
    return (
        f"the id `{id_}` cannot be part of a file name: it takes letters, digits, spaces"
        f" and `._-`, and begins with a letter or digit{instead}"
    )
