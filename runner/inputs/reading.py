"""Reads files in the form in which they travel, and only those that hold what was planned."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.media import HEAD_BYTES, input_type, real_name

# Base64 makes four characters of three bytes: pieces of a multiple of three can be put in a row.
PIECE_BYTES = 3 * 2**18
# How much of a file of one byte is in memory at a time: as base64, and once more as it is sent.
UPLOAD_SHARE, INLINE_SHARE = 2, 4


class UnusableFile(Exception):
    """A file is not what was planned; the text is a whole sentence for the user."""


def upload_body(paths: Sequence[Path], sha256: str) -> io.BytesIO:
    """The JSON body that uploads a file; `paths` are those that were seen to hold this content."""
    return _read(paths, sha256, b'{"data_urls": ["', b'"]}')


def data_url(paths: Sequence[Path], sha256: str) -> str:
    """The content of a file as a data URL."""
    return _read(paths, sha256, b"", b"").getvalue().decode("ascii")


def size_of(paths: Sequence[Path]) -> int:
    """The size in bytes of the largest of the files that are there."""
    sizes = [0]
    for path in paths:
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return max(sizes)


def real_names(places: Iterable[Sequence[Path]]) -> list[str]:
    """The names by which looks at files are remembered."""
    return [real_name(path) for paths in places for path in paths]


def _read(paths: Sequence[Path], sha256: str, before: bytes, after: bytes) -> io.BytesIO:
    faults: list[str] = []
    for path in paths:
        try:
            return _encoded(path, sha256, before, after)
        except UnusableFile as error:
            faults.append(str(error))
        except OSError as error:
            faults.append(f"the file {path} cannot be read any more: {error.strerror or error}")
    raise UnusableFile(f"{faults[0]}; nothing was sent, run again to plan it anew")


def _encoded(path: Path, sha256: str, before: bytes, after: bytes) -> io.BytesIO:
    body, digest = io.BytesIO(), hashlib.sha256()
    with path.open("rb") as stream:
        piece = stream.read(PIECE_BYTES)
        content_type = input_type(piece[:HEAD_BYTES], path.name) or "application/octet-stream"
        body.write(before + f"data:{content_type};base64,".encode())
        while piece:
            digest.update(piece)
            body.write(base64.b64encode(piece))
            piece = stream.read(PIECE_BYTES)
    if digest.hexdigest() != sha256:
        raise UnusableFile(f"the file {path} has changed since it was planned")
    body.write(after)
    body.seek(0)
    return body
