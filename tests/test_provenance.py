"""Where a picture comes from stands in it: its pixels stay as they were, and what is odd is left alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageSequence

from runner.provenance import NotEmbeddable, can_hold, write_with_packet, xmp_packet
from runner.provenance.packet import LONGEST_VALUE, NAMESPACE

PROMPT = "a fox & <script>alert('x')</script>\nin \"snow\", 雪 🦊"
PARAMS = {"prompt": PROMPT, "aspect_ratio": "16:9", "seed": 7}
PACKET = xmp_packet("imagen", PARAMS, "req-1")
PIL_NAMES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
OWN = f"{{{NAMESPACE}}}"


def picture(mode: str = "RGB", side: int = 33) -> Image.Image:
    noise = Random(mode).randbytes(side * side * 4)
    return Image.frombytes("RGBA", (side, side), noise).convert(mode)


def encoded(content_type: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, PIL_NAMES[content_type], **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = "a description"
    return found


PICTURES = {
    "png": ("image/png", encoded("image/png")),
    "png-alpha": ("image/png", encoded("image/png", "RGBA")),
    "png-palette": ("image/png", encoded("image/png", "P")),
    "png-grey": ("image/png", encoded("image/png", "L")),
    "png-exif": ("image/png", encoded("image/png", exif=exif(), dpi=(300, 300))),
    "png-animated": (
        "image/png",
        encoded("image/png", save_all=True, append_images=[picture("L").convert("RGB")]),
    ),
    "jpeg": ("image/jpeg", encoded("image/jpeg")),
    "jpeg-progressive": ("image/jpeg", encoded("image/jpeg", progressive=True)),
    "jpeg-grey": ("image/jpeg", encoded("image/jpeg", "L")),
    "jpeg-cmyk": ("image/jpeg", encoded("image/jpeg", "CMYK")),
    "jpeg-exif": ("image/jpeg", encoded("image/jpeg", exif=exif(), comment=b"hello")),
    "webp": ("image/webp", encoded("image/webp")),
    "webp-lossless": ("image/webp", encoded("image/webp", lossless=True)),
    "webp-alpha": ("image/webp", encoded("image/webp", "RGBA", lossless=True, exact=True)),
    "webp-alpha-lossy": ("image/webp", encoded("image/webp", "RGBA")),
    "webp-exif": ("image/webp", encoded("image/webp", exif=exif())),
    "webp-animated": (
        "image/webp",
        encoded("image/webp", save_all=True, append_images=[picture("L").convert("RGB")]),
    ),
}


def embed(tmp_path: Path, content_type: str, data: bytes, packet: bytes = PACKET) -> bytes:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    write_with_packet(source, target, content_type, packet)
    assert source.read_bytes() == data
    return target.read_bytes()


def pixels(data: bytes) -> list[tuple[str, tuple[int, int], bytes]]:
    with Image.open(io.BytesIO(data)) as image:
        return [(f.mode, f.size, f.tobytes()) for f in ImageSequence.Iterator(image)]


def packet_of(data: bytes) -> bytes:
    """The packet as Pillow gives it."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        found = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    return found if isinstance(found, bytes) else found.encode()


def told(packet: bytes) -> dict[str, str]:
    root = ElementTree.fromstring(packet)  # noqa: S314  our own
    found = {e.tag.removeprefix(OWN): e.text or "" for e in root.iter() if e.tag.startswith(OWN)}
    return found | {"description": "".join(e.text or "" for e in root.iter(f"{RDF}li"))}


@pytest.mark.parametrize("name", PICTURES)
def test_pixels_stay_as_they_were_and_the_metadata_are_read_back(name: str, tmp_path: Path):
    content_type, data = PICTURES[name]

    result = embed(tmp_path, content_type, data)

    assert pixels(result) == pixels(data)
    found = told(packet_of(result))
    assert found["model"] == "imagen"
    assert found["requestId"] == "req-1"
    assert found["description"] == PROMPT
    assert json.loads(found["parameters"]) == PARAMS


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_else_of_the_file_is_lost(name: str, tmp_path: Path):
    content_type, data = PICTURES[name]

    result = embed(tmp_path, content_type, data)

    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(result)) as after:
        gone = {key for key, value in before.info.items() if after.info.get(key) != value}
        assert not gone
        assert dict(after.getexif()) == dict(before.getexif())


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_job_gives_the_same_bytes(name: str, tmp_path: Path):
    content_type, data = PICTURES[name]
    assert embed(tmp_path, content_type, data) == embed(tmp_path, content_type, data)


@pytest.mark.parametrize("name", PICTURES)
def test_a_file_that_has_metadata_of_its_own_is_left_alone(name: str, tmp_path: Path):
    content_type, data = PICTURES[name]
    once = embed(tmp_path, content_type, data)

    with pytest.raises(NotEmbeddable, match="of its own"):
        embed(tmp_path, content_type, once)


@pytest.mark.parametrize("name", PICTURES)
def test_a_file_that_is_cut_off_anywhere_or_damaged_raises_nothing_else(name: str, tmp_path: Path):
    content_type, data = PICTURES[name]
    rng = Random(name)
    for _ in range(120):
        cut = data[: rng.randrange(len(data))]
        damaged = bytearray(data)
        damaged[rng.randrange(min(len(data), 200))] = rng.randrange(256)
        for odd in (cut, bytes(damaged)):
            try:
                embed(tmp_path, content_type, odd)
            except NotEmbeddable:
                continue


@pytest.mark.parametrize("content_type", PIL_NAMES)
def test_what_is_no_such_file_is_left_alone(content_type: str, tmp_path: Path):
    for data in (b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF\4\0\0\0WEBP", bytes(200)):
        with pytest.raises(NotEmbeddable):
            embed(tmp_path, content_type, data)


def test_a_signed_file_is_left_alone(tmp_path: Path):
    png, jpeg, webp = (PICTURES[name][1] for name in ("png", "jpeg", "webp"))
    signed = {
        "image/png": png[:33] + b"\0\0\0\1caBXx\0\0\0\0" + png[33:],
        "image/jpeg": jpeg[:2] + b"\xff\xeb\0\4JP" + jpeg[2:],
        "image/webp": b"RIFF"
        + (len(webp) + 2).to_bytes(4, "little")
        + webp[8:]
        + b"C2PA\2\0\0\0xx",
    }
    for content_type, data in signed.items():
        with pytest.raises(NotEmbeddable, match="Content Credentials"):
            embed(tmp_path, content_type, data)


def test_a_prompt_that_is_too_long_for_a_jpeg_is_left_out_of_it_and_not_out_of_a_png(
    tmp_path: Path,
):
    packet = xmp_packet("imagen", {"prompt": "x" * 70_000}, "r")

    with pytest.raises(NotEmbeddable, match="too long"):
        embed(tmp_path, "image/jpeg", PICTURES["jpeg"][1], packet)
    result = embed(tmp_path, "image/png", PICTURES["png"][1], packet)
    assert told(packet_of(result))["description"] == "x" * 70_000


def test_an_input_picture_that_was_sent_as_text_is_not_written_down():
    long = "data:image/png;base64," + "A" * 100_000
    packet = xmp_packet("rmbg", {"image": long, "more": [{"image": long}]}, "r")

    assert len(packet) < LONGEST_VALUE
    parameters = json.loads(told(packet)["parameters"])
    assert parameters["image"].startswith("data:image/png;base64,")
    assert "100,022 characters" in parameters["more"][0]["image"]


def test_what_xml_cannot_hold_is_replaced():
    packet = xmp_packet("m", {"prompt": "a\x00b\x1bc\ud800d\ufffe"}, None)

    assert told(packet)["description"] == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert told(packet)["requestId"] == ""


def test_only_formats_that_hold_a_packet_are_tried():
    assert [t for t in ("image/png", "image/gif", "video/mp4", "text/plain") if can_hold(t)] == [
        "image/png"
    ]
