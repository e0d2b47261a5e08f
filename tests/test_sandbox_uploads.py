"""The sandbox takes files as the API does, gives addresses that it serves, and plays their faults."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from segmind import SegmindClient
from segmind.files import Files
from test_dialect import in_thread

from runner.sandbox import Fixed, Options, Sandbox

KEY = {"x-api-key": "SG_0123456789abcdef"}
OPTIONS = Options(latency=Fixed(0), picture_px=32, window_s=3600)
PNG = b"\x89PNG\r\n\x1a\n and so on"


class Caller:
    """Uploads to a sandbox and submits what uses it."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self.session, self.sandbox = session, sandbox

    async def send(self, body: Any, headers: Any = KEY) -> tuple[int, Any]:
        url = f"{self.sandbox.url}/upload-asset"
        async with self.session.post(url, headers=headers, json=body) as answer:
            return answer.status, await answer.json()

    async def upload(self, content: bytes) -> tuple[int, Any]:
        return await self.send({"data_urls": [data_url(content)]})

    async def outcome(self, body: dict[str, Any], model: str = "bg-removal") -> dict[str, Any]:
        post = self.session.post(f"{self.sandbox.url}/v2/{model}", headers=KEY, json=body)
        async with post as answer:
            told = await answer.json()
        if "request_id" not in told:
            return dict(told)
        url = f"{self.sandbox.url}/v2/requests/{told['request_id']}"
        async with self.session.get(url, headers=KEY) as answer:
            return dict(await answer.json())


def data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session, Sandbox(OPTIONS) as sandbox:
        yield Caller(session, sandbox)


async def test_an_uploaded_file_is_served_without_a_key(caller: Caller) -> None:
    status, told = await caller.send({"data_urls": [data_url(PNG), data_url(PNG + b"2")]})
    assert status == 200
    first, second = told["file_urls"]
    async with caller.session.get(second) as answer:
        assert (answer.content_type, await answer.read()) == ("image/png", PNG + b"2")
    async with caller.session.get(first, headers=KEY) as answer:
        await answer.read()
    assert len(caller.sandbox.key_leaks) == 1


async def test_the_same_file_gets_an_address_each_time(caller: Caller) -> None:
    urls = {(await caller.upload(PNG))[1]["file_urls"][0] for _ in range(3)}
    assert len(urls) == 3


@pytest.mark.parametrize(
    "body", [{}, {"data_urls": []}, {"data_urls": ["https://x"]}, {"data_urls": [7]}, [1]]
)
async def test_what_is_no_data_url_is_refused(caller: Caller, body: Any) -> None:
    status, told = await caller.send(body)
    assert status == 400
    assert "data_urls" in told["error"]


async def test_an_upload_needs_the_key_and_counts_against_the_rate() -> None:
    async with (
        aiohttp.ClientSession() as session,
        Sandbox(Options(rpm=1, window_s=3600)) as sandbox,
    ):
        caller = Caller(session, sandbox)
        body = {"data_urls": [data_url(PNG)]}
        assert (await caller.send(body, headers={}))[0] == 401
        assert (await caller.send(body))[0] == 200
        assert (await caller.send(body))[0] == 429


@pytest.mark.parametrize(
    ("marker", "status"),
    [
        ("upload-401", 401),
        ("upload-404", 404),
        ("upload-413", 413),
        ("upload-500", 500),
        ("upload-no-url", 200),
    ],
)
async def test_a_file_can_ask_for_a_fault(caller: Caller, marker: str, status: int) -> None:
    for _ in range(2):
        found, told = await caller.upload(PNG + f"[[{marker}]]".encode())
        assert found == status
        assert "file_urls" not in told


@pytest.mark.parametrize(("marker", "status"), [("upload-429", 429), ("upload-500-once", 500)])
async def test_a_fault_may_come_once(caller: Caller, marker: str, status: int) -> None:
    content = PNG + f"[[{marker}]]".encode()
    assert [(await caller.upload(content))[0] for _ in range(2)] == [status, 200]


async def test_an_answer_may_be_lost(caller: Caller) -> None:
    content = PNG + b"[[upload-lost-once]]"
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await caller.upload(content)
    assert (await caller.upload(content))[0] == 200


async def test_a_job_takes_its_picture_by_address_or_inline(caller: Caller) -> None:
    url = (await caller.upload(PNG))[1]["file_urls"][0]
    for image in (url, data_url(PNG), "https://example.com/a.png"):
        assert (await caller.outcome({"image": image}))["status"] == "COMPLETED"
    assert "Missing" in (await caller.outcome({"prompt": "a fox"}))["error"]


async def test_a_job_whose_picture_is_not_there_fails(caller: Caller) -> None:
    content = PNG + b"[[upload-gone-once]]"
    gone = (await caller.upload(content))[1]["file_urls"][0]
    for image in (gone, "data:image/png;base64,%%%"):
        assert (await caller.outcome({"image": image}))["status"] == "FAILED"
    there = (await caller.upload(content))[1]["file_urls"][0]
    assert (await caller.outcome({"image": there}))["status"] == "COMPLETED"


async def test_the_history_may_cut_a_data_url_short(caller: Caller) -> None:
    body = {"image": data_url(PNG * 20), "prompt": "[[history-cut]]"}
    await caller.outcome(body)
    url = f"{caller.sandbox.url}/inference-request/request-history"
    async with caller.session.get(url, headers=KEY) as answer:
        (row,) = (await answer.json())["data"]
    assert len(row["request_body"]["image"]) < 110
    assert row["request_body"]["prompt"] == body["prompt"]


async def test_the_official_client_uploads_a_file(
    caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.setattr(Files, "STORAGE_BASE_URL", caller.sandbox.url)
    client = SegmindClient(api_key=KEY["x-api-key"], base_url=f"{caller.sandbox.url}/v1")
    told = await in_thread(lambda: client.files.upload(tmp_path / "a.png"))
    client._client.close()
    assert json.dumps(told["file_urls"]).count(caller.sandbox.url) == 1
