"""The official client gets along with the sandbox, so the sandbox speaks the API's dialect."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from anyio import to_thread
from segmind import SegmindClient
from segmind.exceptions import SegmindError
from segmind.v2 import InferenceFailed, InferenceTimeout

from runner.sandbox import Fixed, Options, Sandbox

# `segmind.generations` is hidden by an attribute of the same name.
GENERATIONS = importlib.import_module("segmind.generations")
KEY = "SG_0123456789abcdef"
PROMPT = "a red fox in fresh snow"


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    async with Sandbox(Options(latency=Fixed(0.1), key=KEY)) as sandbox:
        history = f"{sandbox.url}/inference-request/request-history"
        monkeypatch.setattr(GENERATIONS, "REQUEST_HISTORY_URL", history)
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[SegmindClient]:
    client = SegmindClient(api_key=KEY, base_url=f"{sandbox.url}/v1")
    yield client
    client._client.close()


async def in_thread(work: Callable[[], Any]) -> Any:
    return await to_thread.run_sync(work)


async def test_a_submitted_job_can_be_waited_for(client: SegmindClient, sandbox: Sandbox) -> None:
    job = await in_thread(lambda: client.submit_async("imagen", prompt=PROMPT))
    body = await in_thread(lambda: job.wait(interval=0.02))

    assert body["status"] == "COMPLETED"
    assert body["prompt"] == PROMPT
    assert body["images"][0]["url"] == body["output"]
    assert body["metrics"]["cost"] == 0.04
    assert list(sandbox.accepted) == [job.request_id]


async def test_the_picture_of_a_result_is_there_without_a_key(client: SegmindClient) -> None:
    job = await in_thread(lambda: client.submit_async("imagen", prompt=PROMPT))
    body = await in_thread(lambda: job.wait(interval=0.02))

    picture = await in_thread(lambda: httpx.get(body["output"]))

    assert picture.status_code == 200
    assert picture.content.startswith(b"\x89PNG")
    assert len(picture.content) == body["images"][0]["file_size"]


async def test_a_running_job_shows_its_status_on_both_routes(client: SegmindClient) -> None:
    job = await in_thread(lambda: client.submit_async("imagen", prompt=f"{PROMPT} [[never]]"))

    status, result = await in_thread(lambda: (job.status(), job.result()))

    assert status["status"] in ("QUEUED", "PROCESSING")
    assert result["status"] in ("QUEUED", "PROCESSING")
    assert status["status_url"] == job.status_url
    with pytest.raises(InferenceTimeout):
        await in_thread(lambda: job.wait(timeout=0.05, interval=0.02))


async def test_a_failed_job_raises_with_the_error_text(client: SegmindClient) -> None:
    job = await in_thread(lambda: client.submit_async("imagen", prompt="x [[fail]]"))

    with pytest.raises(InferenceFailed) as caught:
        await in_thread(lambda: job.wait(interval=0.02))
    result = await in_thread(job.result)

    assert caught.value.detail == result["error"]
    assert result["status"] == "FAILED"


async def test_a_refused_key_raises_401(sandbox: Sandbox) -> None:
    stranger = SegmindClient(api_key="SG_ffffffffffffffff", base_url=f"{sandbox.url}/v1")
    try:
        with pytest.raises(SegmindError) as caught:
            await in_thread(lambda: stranger.submit_async("imagen", prompt=PROMPT))
    finally:
        stranger._client.close()

    assert caught.value.status == 401
    assert not sandbox.accepted


async def test_a_refused_parameter_raises_406_with_the_reason(client: SegmindClient) -> None:
    with pytest.raises(SegmindError) as caught:
        await in_thread(lambda: client.submit_async("imagen", prompt=PROMPT, aspect_ratio="2:1"))

    assert caught.value.status == 406
    assert "aspect_ratio" in str(caught.value.detail)


async def test_the_history_lists_a_job_and_gives_it_by_id(client: SegmindClient) -> None:
    job = await in_thread(lambda: client.submit_async("imagen", prompt=PROMPT))
    body = await in_thread(lambda: job.wait(interval=0.02))

    page = await in_thread(lambda: client.generations.history(model_name="imagen"))
    row = await in_thread(lambda: client.generations.get(job.request_id))

    assert page["data"] == [row]
    assert row["request_body"] == {"prompt": PROMPT}
    assert row["generation_url"] == body["output"]
    assert row["model_status"] == "COMPLETED"
    assert row["credits_deduction"] == 0.04


async def test_the_balance_can_be_asked_for(client: SegmindClient, sandbox: Sandbox) -> None:
    answer = await in_thread(
        lambda: client._request("GET", f"{sandbox.url}/v1/get-user-credits").json()
    )

    assert answer == {"credits": 1000.0, "free-credits": 0}
