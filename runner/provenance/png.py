"""PNG: an iTXt chunk right behind the header. Source: PNG specification 11.3.3.4; XMP part 3, 1.1.5."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from runner.provenance.pieces import HAS_PACKET, SIGNED, NotEmbeddable, Piece, exactly, length

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"XML:com.adobe.xmp"
_HEADER_END = len(_SIGNATURE) + 4 + 4 + 13 + 4


def pieces(file: BinaryIO, packet: bytes) -> list[Piece]:
    """The file with the packet in it. Raises NotEmbeddable for one that is better left alone."""
    end = length(file)
    if exactly(file, len(_SIGNATURE)) != _SIGNATURE:
        raise NotEmbeddable("it is no PNG")
    kind, position = b"", len(_SIGNATURE)
    while kind != b"IEND":
        size, kind = struct.unpack(">I4s", exactly(file, 8))
        if position == len(_SIGNATURE) and (kind, size) != (b"IHDR", 13):
            raise NotEmbeddable("it does not begin with a header")
        if kind == b"caBX":
            raise NotEmbeddable(SIGNED)
        if kind == b"iTXt" and file.read(min(size, len(_KEYWORD) + 1)) == _KEYWORD + b"\0":
            raise NotEmbeddable(HAS_PACKET)
        position += 12 + size
        if position > end:
            raise NotEmbeddable("it ends too early")
        file.seek(position)
    # Neither compressed, nor in any language.
    text = _KEYWORD + b"\0" + b"\0\0" + b"\0" + b"\0" + packet
    return [(0, _HEADER_END), _chunk(b"iTXt", text), (_HEADER_END, end)]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
