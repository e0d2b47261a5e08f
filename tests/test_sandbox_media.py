"""The sandbox's pictures are real, repeatable, plainly simulated, and served without a key."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image

from runner.sandbox import Fixed, Options, Sandbox
from runner.sandbox.pictures import Picture, render

KEY = {"x-api-key": "SG_0123456789abcdef"}
OPTIONS = Options(latency=Fixed(0))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(OPTIONS) as sandbox:
        yield sandbox


async def media_url(
    session: aiohttp.ClientSession, sandbox: Sandbox, model: str = "imagen", **body: Any
) -> str:
    body.setdefault("prompt", "a fox")
    async with session.post(f"{sandbox.url}/v2/{model}", headers=KEY, json=body) as answer:
        route = (await answer.json())["response_url"]
    async with session.get(route, headers=KEY) as answer:
        return str((await answer.json())["images"][0]["url"])


async def fetched(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.mark.parametrize(
    ("model", "body", "size"),
    [
        ("imagen", {}, (640, 360)),
        ("imagen", {"aspect_ratio": "9:16"}, (360, 640)),
        ("imagen", {"aspect_ratio": "4:3"}, (640, 480)),
        ("flux", {}, (640, 640)),
        ("flux", {"width": 512, "height": 256}, (640, 320)),
        ("flux", {"aspect_ratio": "nonsense"}, (640, 640)),
    ],
)
async def test_a_picture_has_the_aspect_ratio_asked_for(
    session: aiohttp.ClientSession,
    sandbox: Sandbox,
    model: str,
    body: dict[str, Any],
    size: tuple[int, int],
) -> None:
    content = await fetched(session, await media_url(session, sandbox, model, **body))

    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.size == size
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("wanted", "kind", "suffix"), [("jpeg", "JPEG", ".jpg"), ("webp", "WEBP", ".webp")]
)
async def test_a_picture_has_the_format_asked_for(
    session: aiohttp.ClientSession, sandbox: Sandbox, wanted: str, kind: str, suffix: str
) -> None:
    url = await media_url(session, sandbox, "flux", output_format=wanted)

    with Image.open(io.BytesIO(await fetched(session, url))) as picture:
        assert picture.format == kind
    assert url.endswith(suffix)


async def test_a_request_gives_the_same_picture_in_every_sandbox(
    session: aiohttp.ClientSession,
) -> None:
    contents = []
    for _ in range(2):
        async with Sandbox(OPTIONS) as sandbox:
            contents.append(await fetched(session, await media_url(session, sandbox)))

    assert contents[0] == contents[1]


async def test_repeats_differ_unless_a_seed_is_given(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    free = {await fetched(session, await media_url(session, sandbox)) for _ in range(3)}
    seeded = {await fetched(session, await media_url(session, sandbox, seed=1)) for _ in range(3)}

    assert len(free) == 3
    assert len(seeded) == 1


async def test_placeholders_are_one_and_the_same_picture(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    urls = [await media_url(session, sandbox, prompt=f"{n} [[placeholder]]") for n in range(3)]

    assert len({await fetched(session, url) for url in urls}) == 1


@pytest.mark.parametrize(
    "prompt",
    ["", "Ein Café in Zürich", "狐" * 500, "word " * 400, "x" * 3000, "two\nlines\t\x00and more"],
)
@pytest.mark.parametrize("size", [(640, 360), (160, 640), (64, 16), (8, 8)])
def test_any_prompt_fits_on_any_picture(prompt: str, size: tuple[int, int]) -> None:
    content = render(Picture(prompt, "some-model", *size, fingerprint=prompt))

    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == size


def test_pictures_are_drawn_quickly() -> None:
    pictures = [Picture("a fox", "imagen", 640, 360, fingerprint=str(n)) for n in range(20)]
    render(pictures[0])

    began = time.process_time()
    for picture in pictures:
        render(picture)

    # A generous multiple of what it takes, so that only a real slowdown shows.
    assert (time.process_time() - began) / len(pictures) < 0.1


async def test_a_range_of_a_file_can_be_asked_for(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    url = await media_url(session, sandbox)
    whole = await fetched(session, url)
    total = len(whole)
    expected = {
        "bytes=10-19": (206, whole[10:20], f"bytes 10-19/{total}"),
        "bytes=100-": (206, whole[100:], f"bytes 100-{total - 1}/{total}"),
        "bytes=-7": (206, whole[-7:], f"bytes {total - 7}-{total - 1}/{total}"),
        f"bytes={total}-": (416, b"", f"bytes */{total}"),
        "lines=1-2": (200, whole, None),
    }

    for text, (status, part, content_range) in expected.items():
        async with session.get(url, headers={"Range": text}) as answer:
            assert answer.status == status
            assert await answer.read() == part
            assert answer.headers.get("Content-Range") == content_range


async def test_a_changed_file_is_sent_whole_instead_of_a_range(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    url = await media_url(session, sandbox)
    headers = {"Range": "bytes=10-", "If-Range": '"another"'}

    async with session.get(url, headers=headers) as answer:
        assert answer.status == 200


async def test_head_tells_length_type_and_tag(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    url = await media_url(session, sandbox)
    whole = await fetched(session, url)

    async with session.head(url) as answer:
        assert await answer.read() == b""

    assert int(answer.headers["Content-Length"]) == len(whole)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"]


async def test_media_need_no_key_and_a_key_sent_there_is_a_leak(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    url = await media_url(session, sandbox)
    await fetched(session, url)
    before = list(sandbox.key_leaks)

    async with session.get(url, headers=KEY):
        pass

    assert before == []
    assert len(sandbox.key_leaks) == sandbox.stats()["key_leaks"] == 1
    assert sandbox.key_leaks[0].startswith("GET /media/")


async def test_media_outlive_the_result_and_then_expire(session: aiohttp.ClientSession) -> None:
    now = 1_760_000_000.0
    async with Sandbox(OPTIONS, clock=lambda: now) as sandbox:
        url = await media_url(session, sandbox)
        now += 6 * 86400
        await fetched(session, url)
        now += 86400
        async with session.get(url) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    "path", ["/media/unknown/0.png", "/media/{token}/9.png", "/media/{token}/x"]
)
async def test_other_media_are_404(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str
) -> None:
    token = (await media_url(session, sandbox)).split("/")[-2]

    async with session.get(sandbox.url + path.format(token=token)) as answer:
        assert answer.status == 404
