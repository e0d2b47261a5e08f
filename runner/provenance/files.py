"""A copy of a picture with a packet in it, whatever its format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from runner.provenance import jpeg, png, webp
from runner.provenance.pieces import NotEmbeddable, Piece

__all__ = ["NotEmbeddable", "can_hold", "write_with_packet"]

_FORMATS = {"image/png": png.pieces, "image/jpeg": jpeg.pieces, "image/webp": webp.pieces}
_COPY_BYTES = 1 << 20


def can_hold(content_type: str) -> bool:
    """Whether files of this type can hold a packet."""
    return content_type in _FORMATS


def write_with_packet(source: Path, target: Path, content_type: str, packet: bytes) -> None:
    """Writes `source` with the packet in it to `target`, durably.

    Raises NotEmbeddable for a file that is better left alone; then there may be no `target`.
    """
    with source.open("rb") as file:
        pieces = _FORMATS[content_type](file, packet)
        with target.open("wb") as copy:
            for piece in pieces:
                _write(file, copy, piece)
            copy.flush()
            os.fsync(copy.fileno())


def _write(file: BinaryIO, copy: BinaryIO, piece: Piece) -> None:
    if isinstance(piece, bytes):
        copy.write(piece)
        return
    start, end = piece
    file.seek(start)
    while start < end:
        data = file.read(min(_COPY_BYTES, end - start))
        if not data:
            raise NotEmbeddable("it ends too early")
        copy.write(data)
        start += len(data)
