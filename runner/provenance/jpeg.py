"""JPEG: an APP1 segment behind the ones that have to come first. Source: XMP part 3, 1.1.3."""

from __future__ import annotations

import struct
from typing import BinaryIO

from runner.provenance.pieces import HAS_PACKET, SIGNED, NotEmbeddable, Piece, exactly, length

_START = b"\xff\xd8"
_APP0, _APP1, _APP11, _SCAN = 0xE0, 0xE1, 0xEB, 0xDA
_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_MOST_BYTES = 0xFFFF - 2 - len(_NAME)
# Markers that stand alone: they have no place before the picture.
_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xDA), 0xFF})


def pieces(file: BinaryIO, packet: bytes) -> list[Piece]:
    """The file with the packet in it. Raises NotEmbeddable for one that is better left alone."""
    end = length(file)
    if exactly(file, 2) != _START:
        raise NotEmbeddable("it is no JPEG")
    if len(packet) > _MOST_BYTES:
        raise NotEmbeddable("prompt and parameters are too long for a JPEG")
    position, insert_at, at_front = 2, 2, True
    while True:
        fill, marker, size = struct.unpack(">BBH", exactly(file, 4))
        if fill != 0xFF or marker in _BARE or size < 2:
            raise NotEmbeddable("its segments are odd")
        if marker == _SCAN:
            break
        name = file.read(min(size - 2, len(_NAME)))
        if marker == _APP11:
            raise NotEmbeddable(SIGNED)
        if marker == _APP1 and name == _NAME:
            raise NotEmbeddable(HAS_PACKET)
        position += 2 + size
        # JFIF and Exif insist on being first.
        at_front = at_front and (marker == _APP0 or name.startswith(b"Exif\0"))
        insert_at = position if at_front else insert_at
        if position > end:
            raise NotEmbeddable("it ends too early")
        file.seek(position)
    segment = struct.pack(">BBH", 0xFF, _APP1, 2 + len(_NAME) + len(packet)) + _NAME + packet
    return [(0, insert_at), segment, (insert_at, end)]
