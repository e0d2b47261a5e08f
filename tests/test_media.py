"""What bytes are is told from the bytes; what is not whole is not kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from PIL import Image, features

from runner import media
from runner.media import UnusableMedium, check, digest, kind_of, put_in_place, write_whole


def picture(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A part of a PNG."""
    check_sum = zlib.crc32(name + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + name + body + check_sum


def stored(folder: Path, content: bytes) -> Path:
    path = folder / "a.part"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "extension"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"),
     ("TIFF", "tif")],
)  # fmt: skip
@pytest.mark.parametrize("declared", [None, "text/plain", "application/octet-stream", "text/html"])
def test_a_whole_picture_is_taken_whatever_it_is_declared_as(
    tmp_path: Path, kind: str, extension: str, declared: str | None
) -> None:
    content = picture(kind)
    checked = check(stored(tmp_path, content), declared)
    assert checked.kind.extension == extension
    assert checked.kind.is_image
    assert checked.size_bytes == len(content)
    assert checked.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    content = picture(kind)
    with pytest.raises(UnusableMedium):
        check(stored(tmp_path, content[: int(len(content) * share)]), "image/png")


def test_a_picture_with_a_broken_middle_is_refused(tmp_path: Path) -> None:
    content = bytearray(picture("PNG"))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(UnusableMedium, match="is broken"):
        check(stored(tmp_path, bytes(content)), "image/png")


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><title>Sign in</title>",
        b"\n\n  <html><body>no</body></html>",
        b"<HTML>",
        b"\xef\xbb\xbf<!doctype html>",
    ],
)
@pytest.mark.parametrize("declared", [None, "image/png", "text/html; charset=utf-8"])
def test_a_page_is_not_a_medium(tmp_path: Path, page: bytes, declared: str | None) -> None:
    with pytest.raises(UnusableMedium):
        check(stored(tmp_path, page), declared)


@pytest.mark.parametrize(
    "page",
    [b"<!-- no --><html>", b'<?xml version="1.0"?><!DOCTYPE html><html xmlns="">'],
)
def test_a_page_behind_something_else_is_not_a_medium(page: bytes) -> None:
    with pytest.raises(UnusableMedium, match="HTML page"):
        kind_of(page, "application/octet-stream")


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("a.png", "application/json"),
        ("a.png?sig=1", "text/plain"),
        ("a.jpg", None),
        ("a.webp", "application/xml"),
        ("a.mp4", "application/json"),
        ("a.mp4", "text/plain; charset=utf-8"),
        ("a.wav", "application/xml"),
    ],
)
def test_an_error_under_the_name_of_a_medium_is_not_one(
    tmp_path: Path, name: str, declared: str | None
) -> None:
    with pytest.raises(UnusableMedium, match="named as"):
        check(stored(tmp_path, b"no such thing"), declared, f"https://x.example/{name}")


@pytest.mark.parametrize(
    ("name", "declared", "extension"),
    [
        ("a.svg", "image/svg+xml", "svg"),
        ("a.png", "image/svg+xml", "svg"),
        ("a.txt", "text/plain", "txt"),
        ("a.json", "application/json", "json"),
        ("a.mp4", "video/x-unheard-of", "bin"),
        ("a", "application/json", "json"),
    ],
)
def test_what_nobody_knows_is_what_it_says_it_is(
    tmp_path: Path, name: str, declared: str | None, extension: str
) -> None:
    checked = check(stored(tmp_path, b"<svg or whatever"), declared, f"https://x.example/{name}")
    assert checked.kind.extension == extension


def test_a_text_is_no_bitmap() -> None:
    assert kind_of(b"BMW builds cars", "text/plain").extension == "txt"
    assert kind_of(b"BM\x36\0\0\0\0\0\0\0\x36", "text/plain").extension == "bmp"


def test_an_empty_file_is_not_a_medium(tmp_path: Path) -> None:
    with pytest.raises(UnusableMedium, match="empty"):
        check(stored(tmp_path, b""), "image/png")


def test_json_that_is_declared_as_a_picture_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(UnusableMedium, match="image/png"):
        check(stored(tmp_path, b'{"error": "no"}'), "image/png")


@pytest.mark.parametrize(
    ("head", "declared", "content_type", "extension"),
    [
        (b"\0\0\0\x18ftypmp42", None, "video/mp4", "mp4"),
        (b"\0\0\0\x18ftypisom", None, "video/mp4", "mp4"),
        (b"\0\0\0\x14ftypqt  ", None, "video/quicktime", "mov"),
        (b"\0\0\0\x18ftypM4A ", None, "audio/mp4", "m4a"),
        (b"\x1aE\xdf\xa3", None, "video/webm", "webm"),
        (b"RIFF\0\0\0\0WAVEfmt ", None, "audio/wav", "wav"),
        (b"ID3\x04", None, "audio/mpeg", "mp3"),
        (b"OggS", None, "audio/ogg", "ogg"),
        (b"glTF\x02", None, "model/gltf-binary", "glb"),
        (b"%PDF-1.7", None, "application/pdf", "pdf"),
        (b"hello", "text/plain; charset=utf-8", "text/plain", "txt"),
        (b"{}", "application/json", "application/json", "json"),
        (b"<svg xmlns=", "image/svg+xml", "image/svg+xml", "svg"),
        (b"\x01\x02", None, "application/octet-stream", "bin"),
        (b"\x01\x02", "application/x-unheard-of", "application/x-unheard-of", "bin"),
    ],
)
def test_content_is_told_from_its_first_bytes(
    head: bytes, declared: str | None, content_type: str, extension: str
) -> None:
    kind = kind_of(head, declared)
    assert (kind.content_type, kind.extension) == (content_type, extension)


def test_a_picture_too_large_to_decode_is_taken_by_its_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = picture("JPEG")
    cut = stored(tmp_path, content[: len(content) // 2])
    with pytest.raises(UnusableMedium):
        check(cut, None)
    monkeypatch.setattr(media, "DECODE_LIMIT_PIXELS", 100)
    assert check(cut, None).size_bytes == len(content) // 2
    whole = picture("PNG")
    assert check(stored(tmp_path, whole), None).size_bytes == len(whole)
    broken = bytearray(whole)
    broken[60] ^= 0xFF
    with pytest.raises(UnusableMedium):
        check(stored(tmp_path, bytes(broken)), None)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_one_wrong_bit_in_the_picture_of_a_png_is_found(tmp_path: Path, share: float) -> None:
    content = bytearray(picture("PNG"))
    content[int(len(content) * share)] ^= 0x01
    with pytest.raises(UnusableMedium):
        check(stored(tmp_path, bytes(content)), "image/png")


def test_a_png_whose_checksums_are_wrong_is_taken_if_it_decodes(tmp_path: Path) -> None:
    content = picture("PNG")
    note = chunk(b"tEXt", b"Comment\0a fox")[:-4] + b"\0\0\0\0"
    odd = content[:-12] + note + content[-12:]
    assert check(stored(tmp_path, odd), None).size_bytes == len(odd)
    # All of the picture is there: nothing is lost with the end mark.
    assert check(stored(tmp_path, content[:-12]), None).size_bytes == len(content) - 12


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_off_animation_is_refused_although_its_first_picture_is_whole(
    tmp_path: Path, share: float
) -> None:
    frames = [Image.effect_noise((40, 30), 90).convert("RGB") for _ in range(5)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    content = buffer.getvalue()
    assert check(stored(tmp_path, content), None).kind.extension == "png"
    with pytest.raises(UnusableMedium):
        check(stored(tmp_path, content[: int(len(content) * share)]), "image/png")


def test_a_png_without_a_picture_is_refused(tmp_path: Path) -> None:
    content = picture("PNG")
    empty = content[:33] + content[-12:]
    with pytest.raises(UnusableMedium, match="is broken"):
        check(stored(tmp_path, empty), "image/png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_whatever_is_wrong_with_a_picture_is_said_as_such(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content, rng = picture(kind, (24, 16)), Random(5)
    for _ in range(60):
        broken = bytearray(content)
        for _ in range(rng.choice((1, 4, 16))):
            broken[rng.randrange(16, len(broken))] = rng.randrange(256)
        with contextlib.suppress(UnusableMedium):
            check(stored(tmp_path, bytes(broken)), None)


def test_a_decompression_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    rows = zlib.compress(bytes(100_000), 9)
    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    # Ten gigabytes decoded: its structure is looked at, its pixels are not.
    assert check(stored(tmp_path, bomb), None).size_bytes == len(bomb)


def test_a_file_is_put_in_place_whole(tmp_path: Path) -> None:
    part, target = tmp_path / "deep" / "a.part", tmp_path / "deep" / "a.png"
    write_whole(part, b"new")
    target.write_bytes(b"an older file")
    put_in_place(part, target)
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["a.png"]  # noqa: PTH208
    assert digest(target) == hashlib.sha256(b"new").hexdigest()


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    part, target = tmp_path / "a.part", tmp_path / "a.png"
    part.write_bytes(b"mine")
    target.write_bytes(b"foreign")
    assert not put_in_place(part, target, hashlib.sha256(b"mine").hexdigest())
    assert target.read_bytes() == b"foreign"
    assert part.exists()


def test_every_rename_is_followed_by_a_sync_of_its_folder_that_begins_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present: list[set[str]] = []
    sync = os.fsync

    def watched(file: int) -> None:
        present.append({path.name for path in tmp_path.iterdir()})
        time.sleep(0.002)
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)

    def one(number: int) -> None:
        part = tmp_path / f"{number}.part"
        part.write_bytes(b"x")
        put_in_place(part, tmp_path / f"{number}.png")
        assert any(f"{number}.png" in names for names in present)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(40)))
    assert len(present) < 40


def test_a_sync_that_fails_is_nobody_elses_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: int) -> None:
        time.sleep(0.002)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)

    def one(number: int) -> bool:
        part = tmp_path / f"{number}.part"
        part.write_bytes(b"x")
        try:
            put_in_place(part, tmp_path / f"{number}.png")
        except OSError:
            return True
        return False

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(one, range(8)))
