"""Every fault that the sandbox can play is what it says it is."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from runner.sandbox import MARKERS, Fixed, Options, Sandbox

KEY = {"x-api-key": "SG_0123456789abcdef"}
HISTORY = "/inference-request/request-history"
OPTIONS = Options(
    latency=Fixed(0), picture_px=96, slow_s=0.2, hang_s=0.2, drip_s=0.2, window_s=3600
)
NO_ANSWER = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Caller:
    """Calls a sandbox with prompts that carry markers."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self.session = session
        self.sandbox = sandbox

    async def post(self, prompt: str, model: str = "imagen") -> tuple[int, str]:
        url = f"{self.sandbox.url}/v2/{model}"
        async with self.session.post(url, headers=KEY, json={"prompt": prompt}) as answer:
            return answer.status, await answer.text()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.sandbox.url + path, headers=KEY) as answer:
            return answer.status, await answer.text()

    async def submitted(self, prompt: str) -> str:
        _, text = await self.post(prompt)
        return f"/v2/requests/{json.loads(text)['request_id']}"

    async def result(self, prompt: str) -> dict[str, Any]:
        _, text = await self.get(await self.submitted(prompt))
        return dict(json.loads(text))

    async def media(self, prompt: str) -> str:
        result = await self.result(prompt)
        return str(result["images"][0]["url"])


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session, Sandbox(OPTIONS) as sandbox:
        yield Caller(session, sandbox)


# How a submit is answered


@pytest.mark.parametrize(
    ("marker", "status", "text"),
    [
        ("400", 400, "error"),
        ("401", 401, "status_code"),
        ("403", 403, "permitted"),
        ("404", 404, "not found"),
        ("405", 405, "<html>"),
        ("406-credits", 406, "Insufficient credits"),
        ("406-limit", 406, "limit"),
        ("406-param", 406, "parameter"),
        ("410", 410, "retired"),
        ("429", 429, "error"),
        ("500", 500, "error"),
        ("503", 503, "error"),
        ("502-refused", 502, "<html>"),
        ("key-echo", 400, KEY["x-api-key"]),
    ],
)
async def test_a_refused_submit_starts_no_job(
    caller: Caller, marker: str, status: int, text: str
) -> None:
    answered, body = await caller.post(f"x [[{marker}]]")

    assert answered == status
    assert text in body
    assert not caller.sandbox.accepted


@pytest.mark.parametrize(
    ("marker", "status", "text"),
    [
        ("502", 502, "<html>"),
        ("504", 504, "<html>"),
        ("not-json", 200, "<html>"),
        ("no-id", 200, '{"status": "QUEUED"}'),
        ("foreign-url", 200, "http://127.0.0.2:9/v2/requests/"),
        ("slow-answer", 200, "request_id"),
    ],
)
async def test_a_bad_answer_hides_a_job_that_was_accepted(
    caller: Caller, marker: str, status: int, text: str
) -> None:
    answered, body = await caller.post(f"x [[{marker}]]")

    assert answered == status
    assert text in body
    assert len(caller.sandbox.accepted) == 1


@pytest.mark.parametrize(("marker", "accepted"), [("lost", 1), ("lost-before", 0)])
async def test_a_lost_answer_never_comes(caller: Caller, marker: str, accepted: int) -> None:
    with pytest.raises(NO_ANSWER):
        await caller.post(f"x [[{marker}]]")

    assert len(caller.sandbox.accepted) == accepted
    assert caller.sandbox.requests[0].status == 0


@pytest.mark.parametrize(
    ("marker", "status", "accepted"),
    [("500-once", 500, 1), ("503-once", 503, 1), ("502-once", 502, 2), ("429", 429, 1)],
)
async def test_a_fault_for_once_is_over_with_the_second_post(
    caller: Caller, marker: str, status: int, accepted: int
) -> None:
    statuses = [(await caller.post(f"x [[{marker}]]"))[0] for _ in range(2)]

    assert statuses[0] == status
    assert statuses[1] in (200, 202)
    assert len(caller.sandbox.accepted) == accepted


async def test_an_answer_lost_once_comes_the_second_time(caller: Caller) -> None:
    with pytest.raises(NO_ANSWER):
        await caller.post("x [[lost-once]]")
    status, _ = await caller.post("x [[lost-once]]")

    assert status in (200, 202)
    assert caller.sandbox.stats()["max_per_body"] == 2


async def test_a_429_on_demand_tells_the_end_of_the_window(caller: Caller) -> None:
    url = f"{caller.sandbox.url}/v2/imagen"

    async with caller.session.post(url, headers=KEY, json={"prompt": "[[429]]"}) as answer:
        assert "x-rate-limit-reset-at-utc" in answer.headers


async def test_text_that_is_no_marker_does_nothing(caller: Caller) -> None:
    status, _ = await caller.post("a [[very odd]] prompt with [[unknown-marker]] in [[ ]]")

    assert status in (200, 202)


async def test_markers_are_found_in_the_messages_of_a_chat(caller: Caller) -> None:
    url = f"{caller.sandbox.url}/v2/gpt-5"
    body = {"messages": [{"role": "user", "content": "hello [[503]]"}], "matrix": [[500]]}

    async with caller.session.post(url, headers=KEY, json=body) as answer:
        assert answer.status == 503


# How polls are answered


@pytest.mark.parametrize(
    ("marker", "statuses"),
    [
        ("poll-500", [500, 500, 200]),
        ("poll-500-always", [500, 500, 500]),
        ("poll-429", [429, 200, 200]),
        ("poll-html", [200, 200, 200]),
        ("gone", [404, 404, 404]),
    ],
)
async def test_polls_go_wrong_as_asked(caller: Caller, marker: str, statuses: list[int]) -> None:
    route = await caller.submitted(f"x [[{marker}]]")

    answers = [await caller.get(f"{route}/status") for _ in range(3)]

    assert [status for status, _ in answers] == statuses
    assert ("<html>" in answers[0][1]) == (marker == "poll-html")


async def test_a_hanging_poll_takes_its_time_once(caller: Caller) -> None:
    route = await caller.submitted("x [[poll-hang]]")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.get(f"{route}/status"), 0.1)

    assert (await asyncio.wait_for(caller.get(f"{route}/status"), 0.1))[0] == 200


async def test_an_undocumented_state_ends_as_completed(caller: Caller) -> None:
    route = await caller.submitted("x [[poll-weird]]")

    states = [json.loads((await caller.get(f"{route}/status"))[1])["status"] for _ in range(3)]

    assert states == ["RETRYING", "RETRYING", "COMPLETED"]


async def test_a_result_can_be_missing_once(caller: Caller) -> None:
    route = await caller.submitted("x [[result-404-once]]")

    assert [(await caller.get(route))[0] for _ in range(2)] == [404, 200]


async def test_a_job_can_run_for_ever_and_is_not_charged(caller: Caller) -> None:
    route = await caller.submitted("x [[never]]")

    assert json.loads((await caller.get(route))[1])["status"] == "PROCESSING"
    assert next(iter(caller.sandbox.accepted.values())).cost == 0


@pytest.mark.parametrize("marker", ["fail", "block", "fail-key-echo"])
async def test_a_failure_has_an_error_text_and_is_free(caller: Caller, marker: str) -> None:
    result = await caller.result(f"x [[{marker}]]")

    assert result["status"] == "FAILED"
    assert result["metrics"]["cost"] == 0
    assert (KEY["x-api-key"] in result["error"]) == (marker == "fail-key-echo")


# What results look like


async def test_outputs_come_in_odd_shapes(caller: Caller) -> None:
    shapes = {
        name: await caller.result(f"x [[{name}]]")
        for name in (
            "output-list",
            "output-string-json",
            "output-relative",
            "no-output",
            "data-url",
        )
    }

    assert len(shapes["output-list"]["output"]) == 1
    assert json.loads(shapes["output-string-json"]["output"])[0].startswith("http")
    assert shapes["output-relative"]["output"].startswith("/media/")
    assert "output" not in shapes["no-output"]
    assert shapes["no-output"]["images"]
    assert shapes["data-url"]["output"].startswith("data:image/png;base64,")


async def test_a_data_url_holds_a_whole_picture(caller: Caller) -> None:
    result = await caller.result("x [[data-url]]")

    picture = Image.open(io.BytesIO(base64.b64decode(result["output"].partition(",")[2])))
    picture.load()
    assert picture.size == (1, 1)


async def test_a_file_name_can_try_to_climb_out(caller: Caller) -> None:
    result = await caller.result("x [[evil-name]]")

    assert result["images"][0]["file_name"] == "../../../etc/passwd"


# How the history tells of it


async def test_history_rows_can_be_hidden_or_incomplete(caller: Caller) -> None:
    for marker in ("history-hidden", "history-no-time", "history-string"):
        await caller.post(f"x [[{marker}]]")

    _, text = await caller.get(f"{HISTORY}?sort_order=asc")

    no_time, string = json.loads(text)["data"]
    assert "model_created" not in no_time
    assert json.loads(string["request_body"]) == {"prompt": "x [[history-string]]"}


# How files come


@pytest.mark.parametrize(
    ("marker", "status", "content_type"),
    [
        ("media-403", 403, "application/xml"),
        ("media-404", 404, "application/xml"),
        ("media-html", 200, "text/html"),
        ("media-wrong-type", 200, "text/plain"),
        ("media-empty", 200, "image/png"),
        ("media-garbage", 200, "image/png"),
        ("media-redirect-loop", 302, "application/octet-stream"),
        ("media-redirect-private", 302, "application/octet-stream"),
    ],
)
async def test_a_file_goes_wrong_every_time(
    caller: Caller, marker: str, status: int, content_type: str
) -> None:
    url = await caller.media(f"x [[{marker}]]")

    for _ in range(2):
        async with caller.session.get(url, allow_redirects=False) as answer:
            content = await answer.read()
            assert answer.status == status
            assert answer.content_type == content_type
    match marker:
        case "media-wrong-type":
            Image.open(io.BytesIO(content)).load()
        case "media-empty":
            assert content == b""
        case "media-garbage":
            with pytest.raises((OSError, SyntaxError)):
                Image.open(io.BytesIO(content)).load()
        case "media-redirect-private":
            assert answer.headers["Location"].startswith("http://169.254.169.254/")


@pytest.mark.parametrize("marker", ["media-truncated", "media-huge", "media-hang"])
async def test_a_file_that_breaks_off_is_noticed(caller: Caller, marker: str) -> None:
    url = await caller.media(f"x [[{marker}]]")

    for _ in range(2):
        async with caller.session.get(url) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def test_a_file_that_breaks_off_once_is_whole_the_second_time(caller: Caller) -> None:
    url = await caller.media("x [[media-truncated-once]]")

    async with caller.session.get(url) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    async with caller.session.get(url) as answer:
        Image.open(io.BytesIO(await answer.read())).load()


async def test_a_file_fails_once_with_500(caller: Caller) -> None:
    url = await caller.media("x [[media-500-once]]")

    statuses = []
    for _ in range(2):
        async with caller.session.get(url) as answer:
            statuses.append(answer.status)

    assert statuses == [500, 200]


@pytest.mark.parametrize("marker", ["media-drip", "media-redirect"])
async def test_a_slow_or_moved_file_is_whole_in_the_end(caller: Caller, marker: str) -> None:
    url = await caller.media(f"x [[{marker}]]")

    async with caller.session.get(url) as answer:
        Image.open(io.BytesIO(await answer.read())).load()

    assert len(answer.history) == (1 if marker == "media-redirect" else 0)


# Rates


async def test_rates_hit_their_share_and_the_same_requests_each_time() -> None:
    options = Options(
        latency=Fixed(0), fail_rate=0.3, block_rate=0.2, lost_answers=0.1, error_rate=0.2, seed=4
    )

    async def outcomes() -> dict[str, str]:
        async with aiohttp.ClientSession() as session, Sandbox(options) as sandbox:
            caller = Caller(session, sandbox)
            lost = 0
            for n in range(300):
                try:
                    await caller.post(f"fox {n}")
                except NO_ANSWER:
                    lost += 1
            assert 10 < lost < 55
            return {record.body["prompt"]: record.outcome for record in sandbox.accepted.values()}

    first, second = await outcomes(), await outcomes()

    assert first == second
    assert 210 < len(first) < 290
    ends = list(first.values())
    assert 0.2 < ends.count("failed") / len(ends) < 0.4
    assert 0.1 < ends.count("blocked") / len(ends) < 0.3


async def test_every_call_can_meet_an_error() -> None:
    async with aiohttp.ClientSession() as session, Sandbox(Options(error_rate=1.0)) as sandbox:
        caller = Caller(session, sandbox)
        statuses = {
            (await caller.get(path))[0]
            for path in ("/v1/get-user-credits", HISTORY, "/v2/requests/x", "/media/a/0.png")
            for _ in range(4)
        }
        posts = {(await caller.post(f"fox {n}"))[0] for n in range(20)}
        stats = (await caller.get("/sandbox/stats"))[0]

    assert statuses <= {500, 502, 503}
    assert posts == {500, 502, 503}
    assert stats == 200


def test_every_marker_has_a_test() -> None:
    tests = "".join(
        file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_sandbox*.py")
    )

    assert [
        name for name in MARKERS if f'"{name}"' not in tests and f"[[{name}]]" not in tests
    ] == []
