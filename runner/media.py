"""Bytes on disk: what they are, and whether they are whole."""

from __future__ import annotations

import codecs
import hashlib
import io
import mimetypes
import os
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import IO
from urllib.parse import urlsplit

from runner.characters import mended

HEAD_BYTES = 512
# Decoded in full up to here; of a larger picture the structure is checked, so that memory stays bounded.
DECODE_LIMIT_PIXELS = 150_000_000


class UnusableMedium(Exception):
    """The bytes are not what was asked for; the text says what they are instead."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of content, told from the content itself."""

    content_type: str
    extension: str
    is_image: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was read whole and is what it should be.

    `received_sha256`: what it came as, where something was added to it since.
    """

    kind: Kind
    size_bytes: int
    sha256: str
    received_sha256: str | None = None


_PNG = Kind("image/png", "png", is_image=True)
_JPEG = Kind("image/jpeg", "jpg", is_image=True)
_WEBP = Kind("image/webp", "webp", is_image=True)
_GIF = Kind("image/gif", "gif", is_image=True)
_MP4 = Kind("video/mp4", "mp4")

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"II*\x00", Kind("image/tiff", "tif", is_image=True)),
    (b"MM\x00*", Kind("image/tiff", "tif", is_image=True)),
    (b"\x1aE\xdf\xa3", Kind("video/webm", "webm")),
    (b"OggS", Kind("audio/ogg", "ogg")),
    (b"fLaC", Kind("audio/flac", "flac")),
    (b"ID3", Kind("audio/mpeg", "mp3")),
    (b"\xff\xfb", Kind("audio/mpeg", "mp3")),
    (b"\xff\xf3", Kind("audio/mpeg", "mp3")),
    (b"glTF", Kind("model/gltf-binary", "glb")),
    (b"%PDF", Kind("application/pdf", "pdf")),
    (b"PK\x03\x04", Kind("application/zip", "zip")),
)
_RIFF = {b"WEBP": _WEBP, b"WAVE": Kind("audio/wav", "wav"), b"AVI ": Kind("video/x-msvideo", "avi")}
_BRANDS = {
    b"avif": Kind("image/avif", "avif", is_image=True),
    b"avis": Kind("image/avif", "avif", is_image=True),
    b"heic": Kind("image/heic", "heic"),
    b"mif1": Kind("image/heic", "heic"),
    b"M4A ": Kind("audio/mp4", "m4a"),
    b"qt  ": Kind("video/quicktime", "mov"),
}
_BMP = Kind("image/bmp", "bmp", is_image=True)
_SVG = "image/svg+xml"
_INPUT_TYPES = ("image/", "video/", "audio/", "model/", "application/pdf")
# What a server says of its errors; a text or a table that was asked for has no picture's name.
_ERROR_TYPES = frozenset({"application/json", "application/xml", "application/problem+json"})
_PLAIN = {"text/plain": "txt", "application/json": "json", "image/svg+xml": "svg"}


def check(
    path: Path, declared_type: str | None, url: str = "", data: bytes | None = None
) -> Checked:
    """Reads the file whole, and looks through it where it is a picture; `data` is its content if at hand.

    A PNG is whole when the checksums of its parts are right; other pictures have to decode.
    Raises UnusableMedium for an empty file, a page or an error instead of a medium, or a picture that
    is broken. What the content is decides; only where it does not tell, what it is declared as
    and what its `url` promises.
    """
    with path.open("rb") if data is None else io.BytesIO(data) as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise UnusableMedium("an empty file came")
        kind = kind_of(head, declared_type, _promised(url))
        if kind.is_image:
            file.seek(0)
            _look_through(file, kind)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Checked(kind, file.seek(0, os.SEEK_END), sha256)


def _promised(url: str) -> str | None:
    try:
        return mimetypes.guess_type(urlsplit(url).path)[0]
    except ValueError:
        return None


def digest(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(
    head: bytes, declared_type: str | None = None, promised_type: str | None = None
) -> Kind:
    """What content begins with these bytes. Raises UnusableMedium for what is no medium."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MP4)
    # Two letters are too few: a text may begin with them as well.
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return _BMP
    declared = mended(declared_type or "").partition(";")[0].strip().lower()
    if _is_page(head) or declared == "text/html":
        raise UnusableMedium("an HTML page came instead of the file")
    promised = promised_type or ""
    for name, how in ((declared, "declared"), (promised, "named")):
        if name.startswith("image/") and _SVG not in (name, declared):
            raise UnusableMedium(f"it is {how} as {name} but holds no picture")
    is_error = declared.startswith("text/") or declared in _ERROR_TYPES
    if is_error and promised.startswith(("video/", "audio/")):
        raise UnusableMedium(f"it is named as {promised} but declared as {declared}")
    extension = _PLAIN.get(declared) or (mimetypes.guess_extension(declared) or ".bin")[1:]
    return Kind(declared or "application/octet-stream", extension)


def input_type(head: bytes, name: str) -> str | None:
    """The media type of a file that a job takes as input; None for what is no medium.

    `head` is how its content begins; `name` only counts where that does not tell, and is no text.
    """
    guessed = mimetypes.guess_type(name)[0] or ""
    if guessed == _SVG and b"<svg" in head:
        return _SVG
    try:
        found = kind_of(head).content_type
    except UnusableMedium:
        return None
    if found == "application/octet-stream":
        # Every binary format has a zero byte near its beginning, and no text has.
        found = guessed if b"\0" in head else ""
    return found if found.startswith(_INPUT_TYPES) else None


def _is_page(head: bytes) -> bool:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return True
    # Behind a comment or an XML declaration.
    return start.startswith((b"<!--", b"<?xml")) and (b"<html" in start or b"html>" in start)


def real_name(path: Path) -> str:
    """One name for a file by whatever links its folder is reached."""
    # There may be many files, and pathlib takes its time.
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(os.path.join(os.getcwd(), folder)), name)  # noqa: PTH109, PTH118


@lru_cache(maxsize=1000)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that a power cut cannot take it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(part: Path, target: Path, sha256: str | None = None) -> bool:
    """Gives a finished file its final name, durably; says whether it could have it.

    `sha256`: what is there already is replaced only if it is the same.
    """
    if sha256 is not None and target.exists() and digest(target) != sha256:
        return False
    part.replace(target)
    if os.name == "posix":
        # The rename itself is in the folder, and the folder has to reach the disk as well.
        _folder(str(target.parent)).sync()
    return True


class _Folder:
    """A folder whose changes are brought to disk; who comes while that is under way shares the next time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._started = 0
        self._ended = 0

    def sync(self) -> None:
        """Returns when all that was done to the folder before is on disk."""
        wanted = self._started + 1
        with self._lock:
            if self._ended >= wanted:
                return
            self._started = number = self._started + 1
            folder = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._ended = number


@lru_cache(maxsize=1000)
def _folder(path: str) -> _Folder:
    return _Folder(path)


def _look_through(file: IO[bytes], kind: Kind) -> None:
    image_module = pillow()
    if kind == _PNG:
        with suppress(Exception), image_module.open(file) as image:
            # Each part of it carries a checksum: a tenth of the work of decoding it.
            image.verify()
            return
        file.seek(0)
    try:
        with image_module.open(file) as image:
            # To decode an animation is to decode its first picture, and the others may be missing.
            is_animated_png = kind == _PNG and image.is_animated
            if image.width * image.height > DECODE_LIMIT_PIXELS or is_animated_png:
                image.verify()
            else:
                image.load()
    # Decoders raise whatever they come upon.
    except Exception as error:
        raise UnusableMedium(f"the picture is broken: {error}") from error


@cache
def pillow() -> ModuleType:
    """`PIL.Image`, imported only by who looks at pictures."""
    from PIL import Image

    # The bound on what is decoded takes the place of Pillow's own, which refuses what was paid for.
    Image.MAX_IMAGE_PIXELS = None
    # For good: to catch warnings is a thing of the whole process, and pictures are looked at in threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image
