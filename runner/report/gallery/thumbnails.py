"""Small copies of pictures, made once per content in the output's own folder.

A thumbnail's name tells everything the page has to know before it is loaded: the first digits of the
picture's sha256, the picture's size in pixels and its average colour. So the folder is its own index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner.job import SavedFile
from runner.media import DECODE_LIMIT_PIXELS, pillow

FOLDER = Path(".gallery", "thumbs")
# Twice what the page shows, for dense screens; two of these cover a 2560 pixel row.
BOX_PIXELS = (512, 384)
QUALITY = 74
_DIGITS = 20
_NAME = re.compile(r"([0-9a-f]{20})-(\d+)x(\d+)-([0-9a-f]{6})\.webp")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy: its path relative to the output folder; the original's width and height in pixels."""

    path: str
    width: int
    height: int
    colour: str


class Thumbnails:
    """The thumbnails of one output folder, by the content of the pictures."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._known = dict(_found(output / FOLDER))

    def of(self, file: SavedFile) -> Thumbnail | None:
        """The thumbnail of a picture, where it has been made."""
        return self._known.get((file.sha256 or "")[:_DIGITS])

    def missing(self, files: Iterable[SavedFile]) -> list[SavedFile]:
        """The pictures among these files that have no thumbnail yet, each content once."""
        wanted = {
            file.sha256[:_DIGITS]: file
            for file in files
            if file.sha256 and file.path and (file.content_type or "").startswith("image/")
        }
        return [file for digits, file in wanted.items() if digits not in self._known]

    def make(
        self,
        files: Iterable[SavedFile],
        enough: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda count: None,
    ) -> int:
        """Makes those that are missing, in threads, until it is `enough`; says how many were left out.

        A picture that cannot be made smaller is shown as it is, and is no fault here.
        """
        left = 0

        def work(file: SavedFile) -> bool:
            if enough():
                return False
            made = _make(self._output, file)
            if made is not None:
                self._known[(file.sha256 or "")[:_DIGITS]] = made
            return True

        # Pillow lets go of the interpreter while it decodes, scales and encodes.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for done in pool.map(work, self.missing(files)):
                left += not done
                progress(1)
        return left


def _found(folder: Path) -> Iterator[tuple[str, Thumbnail]]:
    for group in folder.iterdir() if folder.is_dir() else ():
        for path in group.iterdir() if group.is_dir() else ():
            if found := _NAME.fullmatch(path.name):
                short = f"{FOLDER.as_posix()}/{group.name}/{path.name}"
                yield found[1], Thumbnail(short, int(found[2]), int(found[3]), found[4])


def _make(output: Path, file: SavedFile) -> Thumbnail | None:
    image_module = pillow()
    # Imported here: whoever only reads a gallery's data does without it.
    from PIL import ImageOps

    try:
        with image_module.open(output / (file.path or "")) as image:
            if image.width * image.height > DECODE_LIMIT_PIXELS:
                return None
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = image.size[::-1] if turned else image.size
            # A JPEG is decoded no larger than it is needed, and says so of its size.
            image.draft("RGB", BOX_PIXELS)
            small = ImageOps.exif_transpose(image)
            keeps_alpha = "A" in small.getbands() or "transparency" in small.info
            small = small.convert("RGBA" if keeps_alpha else "RGB")
            small.thumbnail(BOX_PIXELS, image_module.Resampling.BILINEAR, reducing_gap=2.0)
            colour = _average(small)
            digits = (file.sha256 or "")[:_DIGITS]
            path = FOLDER / digits[:2] / f"{digits}-{width}x{height}-{colour}.webp"
            _save(small, output / path)
    # Decoders raise whatever they come upon.
    except Exception:
        return None
    return Thumbnail(path.as_posix(), width, height, colour)


def _average(image: object) -> str:
    from PIL import Image

    assert isinstance(image, Image.Image)  # noqa: S101  for the type checker
    pixel = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    red, green, blue = pixel if isinstance(pixel, tuple) else (0, 0, 0)
    return f"{int(red):02x}{int(green):02x}{int(blue):02x}"


def _save(image: object, target: Path) -> None:
    """Under its final name only when whole; not forced to the disk, for it can be made again."""
    from PIL import Image

    assert isinstance(image, Image.Image)  # noqa: S101  for the type checker
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of this process's own: another may be making the same one.
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        image.save(part, "WEBP", quality=QUALITY, method=0)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
