"""Files as parameters: how they stand in a request, and how one is known again in the request history.

In the ledger a file is its content, `{"sha256": …}`, whatever it is called and however it was sent. In the
request it is a text: the address that it was uploaded to, or the content itself as a data URL. To compare
what was meant with what the history shows, the texts are turned back into contents.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")
_DIGESTED = "data:sha256:"


def reference(sha256: str) -> dict[str, str]:
    """How a file stands in a job's parameters."""
    return {"sha256": sha256}


def is_reference(value: Any) -> bool:
    """Whether a parameter's value stands for a file."""
    return (
        isinstance(value, dict)
        and len(value) == 1
        and isinstance(digest := value.get("sha256"), str)
        and _DIGEST.fullmatch(digest) is not None
    )


def filled(value: Any, sent: Mapping[str, Any]) -> Any:
    """Parameters with something else in place of each file, by its sha256; unknown ones stay."""
    if is_reference(value):
        return sent.get(value["sha256"], value)
    if isinstance(value, dict):
        return {name: filled(inner, sent) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, sent) for inner in value]
    return value


def digested(value: Any) -> Any:
    """A body with each data URL as a short text that tells its content, for bodies are kept and compared."""
    if isinstance(value, str):
        return _digest_of(value) if value.startswith("data:") else value
    if isinstance(value, dict):
        return {name: digested(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [digested(inner) for inner in value]
    return value


def _digest_of(text: str) -> str:
    head = _DATA_URL.match(text)
    if head is None:
        return text
    try:
        content = base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        # Cut short: no content at all, and the beginning of many.
        return f"{_DIGESTED}?"
    return _DIGESTED + hashlib.sha256(content).hexdigest()


def digest_in(text: str) -> str | None:
    """The sha256 that a digested data URL tells, or None."""
    found = text.removeprefix(_DIGESTED)
    return found if found != text and _DIGEST.fullmatch(found) else None


def locations(value: Any) -> Iterator[str]:
    """Every text of a digested body that may stand for a file."""
    if isinstance(value, str):
        if value.startswith(("http://", "https://", _DIGESTED)):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from locations(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from locations(inner)


def recognised(value: Any, contents: Mapping[str, str]) -> Any:
    """A digested body with each text that is known to stand for a content as that content.

    `contents`: sha256 by text, for every address that a file was ever uploaded to, and every data URL.
    """
    if isinstance(value, str):
        return reference(contents[value]) if value in contents else value
    if isinstance(value, dict):
        return {name: recognised(inner, contents) for name, inner in value.items()}
    if isinstance(value, list):
        return [recognised(inner, contents) for inner in value]
    return value


def could_be(own: Any, theirs: Any) -> bool:
    """Whether `theirs`, as the history shows it, may be what was sent as `own`; both recognised.

    A file may be shown in a form that nobody can tell (cut short, moved to another address): only one
    that is known to be another file is surely not this one.
    """
    if is_reference(own):
        return bool(own == theirs) or not is_reference(theirs)
    if isinstance(own, str) and own.startswith("data:"):
        return own == theirs or (isinstance(theirs, str) and theirs.startswith("data:"))
    if isinstance(own, dict):
        same = isinstance(theirs, dict) and own.keys() == theirs.keys()
        return same and all(could_be(value, theirs[name]) for name, value in own.items())
    if isinstance(own, list):
        same = isinstance(theirs, list) and len(own) == len(theirs)
        return same and all(could_be(*pair) for pair in zip(own, theirs, strict=True))
    return bool(own == theirs)
