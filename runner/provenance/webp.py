"""WebP: an XMP chunk at the end, announced in the extended header. Source: RFC 9649, section 2.7."""

from __future__ import annotations

import struct
from typing import BinaryIO

from runner.provenance.pieces import HAS_PACKET, SIGNED, NotEmbeddable, Piece, exactly, length

_HEADER_BYTES = 12
_EXTENDED_BYTES = 10
_ALPHA, _XMP = 0x10, 0x04


def pieces(file: BinaryIO, packet: bytes) -> list[Piece]:
    """The file with the packet in it. Raises NotEmbeddable for one that is better left alone."""
    end = length(file)
    riff, size, webp = struct.unpack("<4sI4s", exactly(file, _HEADER_BYTES))
    if (riff, webp) != (b"RIFF", b"WEBP"):
        raise NotEmbeddable("it is no WebP")
    if size + 8 != end:
        raise NotEmbeddable("its length is not what its header says")
    first, payload = exactly(file, 4), b""
    for kind, start, chunk_bytes in _chunks(file, end):
        if kind == b"XMP ":
            raise NotEmbeddable(HAS_PACKET)
        if kind == b"C2PA":
            raise NotEmbeddable(SIGNED)
        if start == _HEADER_BYTES:
            file.seek(start + 8)
            payload = exactly(file, min(chunk_bytes, _EXTENDED_BYTES))
    if first == b"VP8X" and len(payload) == _EXTENDED_BYTES:
        extended = bytes([payload[0] | _XMP]) + payload[1:]
        rest = (_HEADER_BYTES + 8 + _EXTENDED_BYTES, end)
    else:
        extended, rest = _extended(first, payload), (_HEADER_BYTES, end)
    head, tail = _chunk(b"VP8X", extended), _chunk(b"XMP ", packet)
    whole = 4 + len(head) + rest[1] - rest[0] + len(tail)
    return [b"RIFF" + struct.pack("<I", whole) + b"WEBP" + head, rest, tail]


def _chunks(file: BinaryIO, end: int) -> list[tuple[bytes, int, int]]:
    """Kind, start and length of each chunk."""
    found = []
    position = _HEADER_BYTES
    while position < end:
        file.seek(position)
        kind, size = struct.unpack("<4sI", exactly(file, 8))
        found.append((kind, position, size))
        position += 8 + size + size % 2
    if position != end:
        raise NotEmbeddable("its chunks are odd")
    return found


def _extended(kind: bytes, payload: bytes) -> bytes:
    """The extended header of a file that had none, from the picture's own."""
    flags, width, height = _XMP, 0, 0
    if kind == b"VP8 " and payload[3:6] == b"\x9d\x01\x2a" and len(payload) >= 10:
        width, height = (number & 0x3FFF for number in struct.unpack("<HH", payload[6:10]))
    elif kind == b"VP8L" and payload[:1] == b"\x2f" and len(payload) >= 5:
        (bits,) = struct.unpack("<I", payload[1:5])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= _ALPHA if bits >> 28 & 1 else 0
    else:
        raise NotEmbeddable("its picture is odd")
    sides: bytes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([flags, 0, 0, 0]) + sides


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
