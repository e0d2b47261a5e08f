"""Makes the bytes of media files when they are first asked for, and keeps the recent ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from runner.sandbox import catalogue
from runner.sandbox.book import Accepted
from runner.sandbox.pictures import Picture, render

_KEPT_BYTES = 128 * 1024 * 1024
_VIDEO_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MediaFile:
    """The bytes of a file and how they are labelled."""

    content: bytes
    content_type: str

    @property
    def etag(self) -> str:
        """A strong entity tag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


class Studio:
    """Renders in one thread of its own, for fonts are not to be shared between threads."""

    def __init__(self, picture_px: int) -> None:
        self._picture_px = picture_px
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sandbox-pictures")
        self._kept: OrderedDict[tuple[str, int], MediaFile] = OrderedDict()
        self._kept_bytes = 0

    async def file(self, record: Accepted, n: int) -> MediaFile:
        """The n-th file of a completed job."""
        key = (record.request_id, n)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._thread, _make, record, n, self._picture_px)
        self._keep(key, made)
        return made

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _keep(self, key: tuple[str, int], made: MediaFile) -> None:
        if key in self._kept:
            return
        self._kept[key] = made
        self._kept_bytes += len(made.content)
        while self._kept_bytes > _KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.content)


def _make(record: Accepted, n: int, picture_px: int) -> MediaFile:
    suffix, content_type = catalogue.file_type(record.model, record.body)
    if suffix == "mp4":
        return MediaFile(_video(_fingerprint(record, n)), content_type)
    width, height = catalogue.picture_size(record.model, record.body, picture_px)
    if "placeholder" in record.markers:
        blank = Picture("image unavailable", "", width, height, "placeholder", suffix)
        return MediaFile(render(blank), content_type)
    prompt = record.body.get("prompt", record.body.get("text", ""))
    picture = Picture(
        prompt=prompt if isinstance(prompt, str) else json.dumps(prompt),
        note=f"{record.model} · {width}×{height}",
        width=width,
        height=height,
        fingerprint=_fingerprint(record, n),
        suffix=suffix,
    )
    return MediaFile(render(picture), content_type)


def _fingerprint(record: Accepted, n: int) -> str:
    # A model without a given seed makes another picture each time; with one, always the same.
    variation = 0 if "seed" in record.body else record.occurrence
    return f"{record.body_key}/{variation}/{n}"


def _video(fingerprint: str) -> bytes:
    """The boxes of an MP4 file around noise: a file's type can be told, its pictures cannot."""
    kind = struct.pack(">4s4sI4s4s", b"ftyp", b"isom", 512, b"isom", b"mp42")
    noise = b"mdat" + Random(fingerprint).randbytes(_VIDEO_BYTES)
    return b"".join(struct.pack(">I", len(box) + 4) + box for box in (kind, b"free", noise))
