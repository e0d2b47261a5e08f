"""Characters that are none: half of one, as `\\ud800` in JSON or a byte that is not UTF-8 in a header."""

from __future__ import annotations


def mended(text: str) -> str:
    """The text with `?` for what no file, database or terminal takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
