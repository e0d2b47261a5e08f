"""A file as it will be: new bytes between stretches of the old one."""

from __future__ import annotations

from typing import BinaryIO

Piece = bytes | tuple[int, int]
"""Bytes to write, or the stretch (start, end) of the old file to copy."""

SIGNED = "it carries Content Credentials, which are a signature over its bytes"
HAS_PACKET = "it has XMP metadata of its own"


class NotEmbeddable(Exception):
    """The file is better left alone; the text says why."""


def exactly(file: BinaryIO, count: int) -> bytes:
    """The next bytes of the file. Raises NotEmbeddable when there are fewer."""
    data = file.read(count)
    if len(data) != count:
        raise NotEmbeddable("it ends too early")
    return data


def length(file: BinaryIO) -> int:
    """The file's length; it is read from its beginning afterwards."""
    end = file.seek(0, 2)
    file.seek(0)
    return end
