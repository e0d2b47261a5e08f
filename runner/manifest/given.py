"""A manifest that a program gives as a mapping, read as if it stood in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.documents import Located, Place
from runner.errors import InputError, Problem
from runner.manifest.identity import canonical_json

_STREAMED = "prompts"


class GivenDocument:
    """The keys of a manifest file in a mapping; a "line" is an entry's number, from 1."""

    def __init__(self, given: Mapping[str, Any], shown: str) -> None:
        value = _plain(given)
        entries = value.get(_STREAMED)
        self._entries: list[Any] = entries if isinstance(entries, list) else []
        if isinstance(entries, list):
            value[_STREAMED] = []
        self.document = Located(value, Place(1))
        self._shown = shown

    def items(self) -> Iterator[Located]:
        """The entries, as a file would give them."""
        for number, entry in enumerate(self._entries, start=1):
            yield Located(entry, Place(number))

    def digest_text(self) -> str:
        """One text for equal manifests. Raises InputError for what no request can carry."""
        try:
            return canonical_json([self.document.value, self._entries])
        except (TypeError, ValueError) as error:
            raise InputError(
                [Problem(self._shown, f"holds what cannot be sent: {error}")]
            ) from None


def _plain(value: Any) -> Any:
    """A copy in the types that a file would give, so that later changes of the original do no harm."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
