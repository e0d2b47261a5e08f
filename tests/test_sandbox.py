"""The sandbox speaks the API as it is documented: submits, polls, money, rate, history, memory."""

from __future__ import annotations

import ast
import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

import runner.sandbox
from runner.sandbox import (
    Bimodal,
    Fixed,
    Lognormal,
    Options,
    Sandbox,
    Servers,
    body_key,
    parse_latency,
)
from runner.sandbox.latency import Schedule

KEY = {"x-api-key": "SG_0123456789abcdef"}
HISTORY = "/inference-request/request-history"
NOW = datetime(2026, 10, 15, 12, tzinfo=UTC).timestamp()
AT_ONCE = Options(latency=Fixed(0), picture_px=64)


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


class Caller:
    """Calls a sandbox as an honest client does."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self.session = session
        self.sandbox = sandbox

    async def get(self, path: str, **params: str | int) -> tuple[int, Any]:
        url = self.sandbox.url + path
        async with self.session.get(url, headers=KEY, params=params) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, model: str = "imagen", **body: Any) -> tuple[int, Any]:
        url = f"{self.sandbox.url}/v2/{model}"
        async with self.session.post(url, headers=KEY, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def result(self, model: str = "imagen", **body: Any) -> dict[str, Any]:
        _, accepted = await self.post(model, **body)
        _, result = await self.get(f"/v2/requests/{accepted['request_id']}")
        return result


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def caller(session: aiohttp.ClientSession) -> AsyncIterator[Caller]:
    async with Sandbox(AT_ONCE) as sandbox:
        yield Caller(session, sandbox)


def test_the_sandbox_imports_nothing_of_the_rest() -> None:
    for file in Path(runner.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] != "runner" or name.startswith("runner.sandbox"), file


# Submitting


async def test_an_accepted_post_gets_the_urls_to_follow(caller: Caller) -> None:
    status, body = await caller.post(prompt="a fox")

    base = f"{caller.sandbox.url}/v2/requests/{body['request_id']}"
    assert status in (200, 202)
    assert body["status"] == "QUEUED"
    assert body["status_url"] == f"{base}/status"
    assert body["response_url"] == base
    assert body["poll_url"].endswith(f"/v1/requests/{body['request_id']}")


async def test_equal_posts_are_two_billable_jobs(caller: Caller) -> None:
    await caller.post(prompt="a fox")
    await caller.post(prompt="a fox")

    status, stats = await caller.get("/sandbox/stats")

    assert status == 200
    assert stats["accepted"] == stats["max_per_body"] == 2
    assert stats["accepted_by_body"] == {body_key("imagen", {"prompt": "a fox"}): 2}
    assert sum(stats["requests"]["submit"].values()) == 2
    assert stats["key_leaks"] == 0


@pytest.mark.parametrize(
    ("model", "body", "status", "text"),
    [
        ("imagen", {}, 400, "prompt"),
        ("imagen", {"prompt": 7}, 400, "prompt"),
        ("imagen", {"prompt": "x", "aspect_ratio": "2:1"}, 406, "aspect_ratio"),
        ("imagen", {"prompt": "x", "aspect_ratio": ["1:1"]}, 406, "aspect_ratio"),
        ("no-such-model", {"prompt": "x"}, 404, "not found"),
        ("retired-model", {"prompt": "x"}, 410, "retired"),
        ("forbidden-model", {"prompt": "x"}, 403, "permitted"),
    ],
)
async def test_a_bad_model_or_body_is_refused_with_a_reason(
    caller: Caller, model: str, body: dict[str, Any], status: int, text: str
) -> None:
    answered, answer = await caller.post(model, **body)

    assert answered == status
    assert text in answer["error"]
    assert not caller.sandbox.accepted


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'"text"', b'{"prompt": NaN}', b""])
async def test_a_body_that_is_no_object_is_refused(caller: Caller, raw: bytes) -> None:
    headers = {**KEY, "Content-Type": "application/json"}
    url = f"{caller.sandbox.url}/v2/imagen"

    async with caller.session.post(url, headers=headers, data=raw) as answer:
        assert answer.status == 400


async def test_another_content_type_is_refused_with_406(caller: Caller) -> None:
    url = f"{caller.sandbox.url}/v2/imagen"

    async with caller.session.post(url, headers=KEY, data={"prompt": "x"}) as answer:
        assert answer.status == 406
        assert await answer.json() == {"error": "Invalid content type"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "nonsense"},
        {"Authorization": "Bearer SG_0123456789abcdef"},
    ],
)
async def test_a_missing_or_wrong_key_is_refused_with_401(
    caller: Caller, headers: dict[str, str]
) -> None:
    url = f"{caller.sandbox.url}/v1/get-user-credits"

    async with caller.session.get(url, headers=headers) as answer:
        body = await answer.json()

    assert answer.status == body["status_code"] == 401
    assert body["error_description"]


async def test_only_the_required_key_is_accepted(session: aiohttp.ClientSession) -> None:
    async with Sandbox(Options(key="SG_another")) as sandbox:
        status, _ = await Caller(session, sandbox).get("/v1/get-user-credits")

    assert status == 401


async def test_a_wrong_verb_is_answered_with_a_page(caller: Caller) -> None:
    async with caller.session.get(f"{caller.sandbox.url}/v2/imagen", headers=KEY) as answer:
        assert answer.status == 405
        assert answer.content_type == "text/html"
    async with caller.session.post(caller.sandbox.url + HISTORY, headers=KEY) as answer:
        assert answer.status == 405


async def test_an_unknown_path_is_404(caller: Caller) -> None:
    assert (await caller.get("/v3/imagen"))[0] == 404


# Polling


async def test_a_job_is_queued_then_runs_then_is_done(session: aiohttp.ClientSession) -> None:
    clock = Clock()
    async with Sandbox(Options(latency=Fixed(10)), clock=clock) as sandbox:
        caller = Caller(session, sandbox)
        _, accepted = await caller.post(prompt="a fox")
        route = f"/v2/requests/{accepted['request_id']}"
        states = []
        for clock.time in (NOW, NOW + 5, NOW + 10):
            states.append(
                [(await caller.get(path))[1]["status"] for path in (f"{route}/status", route)]
            )

    assert states == [["QUEUED"] * 2, ["PROCESSING"] * 2, ["COMPLETED"] * 2]


async def test_a_result_carries_output_images_and_metrics(caller: Caller) -> None:
    result = await caller.result(prompt="a fox", seed=7)

    assert result["status"] == "COMPLETED"
    assert result["output"] == result["images"][0]["url"]
    assert result["seed"] == 7
    assert result["images"][0]["content_type"] == "image/png"
    assert {"inference_time", "queue_time", "total_time", "cost", "remaining_credits"} <= set(
        result["metrics"]
    )


async def test_a_failed_job_is_served_as_422_on_both_routes(caller: Caller) -> None:
    _, accepted = await caller.post(prompt="x [[block]]")
    route = f"/v2/requests/{accepted['request_id']}"

    answers = [await caller.get(f"{route}/status"), await caller.get(route)]

    assert [status for status, _ in answers] == [422, 422]
    assert all(body["status"] == "FAILED" and body["error"] for _, body in answers)


async def test_status_and_result_vanish_an_hour_after_the_submit(
    session: aiohttp.ClientSession,
) -> None:
    clock = Clock()
    async with Sandbox(Options(latency=Fixed(3000)), clock=clock) as sandbox:
        caller = Caller(session, sandbox)
        _, accepted = await caller.post(prompt="a fox")
        route = f"/v2/requests/{accepted['request_id']}"

        clock.time = NOW + 3599
        before = (await caller.get(f"{route}/status"))[0]
        clock.time = NOW + 3600
        after = await caller.get(route)

    assert before == 200
    assert after == (404, {"error": f"Request {accepted['request_id']} not found"})


@pytest.mark.parametrize(
    ("model", "kind"), [("wan-video", "video"), ("gpt-5", "text"), ("workflow-7", "workflow")]
)
async def test_other_models_give_other_outputs(caller: Caller, model: str, kind: str) -> None:
    result = await caller.result(model, prompt="a fox")

    assert "images" not in result
    match kind:
        case "video":
            async with caller.session.get(result["video"]["url"]) as answer:
                assert (await answer.read())[4:8] == b"ftyp"
                assert answer.content_type == "video/mp4"
        case "text":
            assert "a fox" in result["output"]
        case "workflow":
            assert [set(part) for part in json.loads(result["output"])] == [
                {"keyname", "value"}
            ] * 2


async def test_several_images_give_a_list_of_outputs(caller: Caller) -> None:
    result = await caller.result("flux", prompt="a fox", num_images=3)

    assert result["output"] == [image["url"] for image in result["images"]]
    assert len(set(result["output"])) == 3


# Money


async def test_money_is_taken_when_a_job_completes(session: aiohttp.ClientSession) -> None:
    clock = Clock()
    options = Options(latency=Fixed(10), credits=0.10)
    async with Sandbox(options, clock=clock) as sandbox:
        caller = Caller(session, sandbox)
        await caller.post(prompt="a fox")
        await caller.post(prompt="x [[fail]]")
        third = await caller.post(prompt="too much while two are in flight")
        clock.time = NOW + 20
        balance = (await caller.get("/v1/get-user-credits"))[1]
        fourth = await caller.post(prompt="a failed job was free")

    assert third == (406, {"error": "Insufficient credits"})
    assert balance == {"credits": 0.06, "free-credits": 0}
    assert fourth[0] in (200, 202)


async def test_the_last_cent_can_be_spent(session: aiohttp.ClientSession) -> None:
    async with Sandbox(Options(latency=Fixed(0), credits=0.12)) as sandbox:
        caller = Caller(session, sandbox)
        statuses = [(await caller.post(prompt=f"fox {n}"))[0] for n in range(4)]

    assert statuses[3] == 406
    assert all(status < 300 for status in statuses[:3])


# Rate


@pytest.mark.parametrize("style", ["epoch", "epoch_ms", "iso", "http"])
async def test_a_used_up_window_is_429_and_tells_its_end(
    session: aiohttp.ClientSession, style: Any
) -> None:
    clock = Clock()
    clock.time += 12.5
    async with Sandbox(Options(rpm=2, reset_format=style), clock=clock) as sandbox:
        url = f"{sandbox.url}/v2/requests/unknown/status"
        statuses = []
        for _ in range(3):
            async with session.get(url, headers=KEY) as answer:
                statuses.append(answer.status)
        reset = answer.headers["x-rate-limit-reset-at-utc"]
        clock.time = NOW + 60
        async with session.get(url, headers=KEY) as later:
            assert later.status == 404

    read = {
        "epoch": lambda: float(reset),
        "epoch_ms": lambda: float(reset) / 1000,
        "iso": lambda: datetime.fromisoformat(reset).timestamp(),
        "http": lambda: parsedate_to_datetime(reset).timestamp(),
    }
    assert statuses == [404, 404, 429]
    assert read[style]() == NOW + 60


async def test_a_sliding_window_lets_one_request_in_for_each_that_is_a_minute_old(
    session: aiohttp.ClientSession,
) -> None:
    clock = Clock()
    options = Options(rpm=2, sliding=True, reset_format="epoch")
    async with Sandbox(options, clock=clock) as sandbox:
        url = f"{sandbox.url}/v2/requests/unknown/status"
        statuses = []
        for at in (0, 40, 50, 60, 61, 100):
            clock.time = NOW + at
            async with session.get(url, headers=KEY) as answer:
                statuses.append(answer.status)
            if at == 50:
                reset = float(answer.headers["x-rate-limit-reset-at-utc"])

    assert statuses == [404, 404, 429, 404, 429, 404]
    assert reset == NOW + 60


async def test_the_stats_count_what_comes_against_the_word_of_a_429(
    session: aiohttp.ClientSession,
) -> None:
    clock = Clock()
    async with Sandbox(Options(rpm=1), clock=clock) as sandbox:
        for at in (1, 2, 2.4, 3, 59, 61):
            clock.time = NOW + at
            await session.get(f"{sandbox.url}/v2/requests/unknown/status", headers=KEY)
        stats = sandbox.stats()

    # What was under way when the 429 was sent could not know of it.
    assert stats["during_hold"] == 2


async def test_a_429_of_the_history_tells_the_end_of_its_own_window(
    session: aiohttp.ClientSession,
) -> None:
    clock = Clock()
    options = Options(rpm=1, sliding=True, history_rpm=1, reset_format="epoch")
    async with Sandbox(options, clock=clock) as sandbox:
        await session.get(f"{sandbox.url}/v2/requests/unknown/status", headers=KEY)
        clock.time += 30
        await session.get(sandbox.url + HISTORY, headers=KEY)
        async with session.get(sandbox.url + HISTORY, headers=KEY) as answer:
            reset = float(answer.headers["x-rate-limit-reset-at-utc"])

    assert answer.status == 429
    assert reset == NOW + 90


async def test_credits_history_media_and_stats_use_no_rate_up(
    session: aiohttp.ClientSession,
) -> None:
    async with Sandbox(Options(rpm=1, latency=Fixed(0))) as sandbox:
        caller = Caller(session, sandbox)
        await caller.get("/v1/get-user-credits")
        await caller.get(HISTORY)
        await caller.get("/sandbox/stats")
        first, second = (await caller.post(prompt="a fox"))[0], (await caller.post(prompt="b"))[0]

    assert (first, second) == (200, 429)


async def test_polls_can_be_free_of_the_rate(session: aiohttp.ClientSession) -> None:
    async with Sandbox(Options(rpm=1, count_polls=False)) as sandbox:
        caller = Caller(session, sandbox)
        statuses = [(await caller.get("/v2/requests/unknown"))[0] for _ in range(3)]

    assert statuses == [404] * 3


async def test_a_skewed_clock_shows_in_date_and_history(session: aiohttp.ClientSession) -> None:
    options = Options(clock_skew_s=7200, latency=Fixed(0))
    async with Sandbox(options, clock=Clock()) as sandbox:
        caller = Caller(session, sandbox)
        await caller.post(prompt="a fox")
        async with session.get(sandbox.url + HISTORY, headers=KEY) as answer:
            row = (await answer.json())["data"][0]

    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOW + 7200
    assert datetime.fromisoformat(row["model_created"]).timestamp() == NOW + 7200


# History


async def test_history_has_a_row_per_output_with_the_full_cost(caller: Caller) -> None:
    result = await caller.result("flux", prompt="a fox", num_images=2)

    _, page = await caller.get(HISTORY, model_name="flu")

    rows = page["data"]
    assert (page["page"], page["per_page"], page["total"]) == (1, 20, 2)
    assert [row["generation_url"] for row in rows] == result["output"]
    assert [row["credits_deduction"] for row in rows] == [0.04, 0.04]
    assert {row["request_id"] for row in rows} == {result["request_id"]}
    assert rows[0]["request_body"] == {"prompt": "a fox", "num_images": 2}


async def test_history_filters_sorts_and_pages(caller: Caller) -> None:
    for prompt in ("first", "second [[fail]]", "third [[never]]"):
        await caller.post(prompt=prompt)

    async def prompts(**query: str | int) -> list[str]:
        _, page = await caller.get(HISTORY, **query)
        return [row["request_body"]["prompt"].split()[0] for row in page["data"]]

    assert await prompts() == ["third", "second", "first"]
    assert await prompts(sort_order="asc", per_page=2) == ["first", "second"]
    assert await prompts(sort_order="asc", per_page=2, page=2) == ["third"]
    assert await prompts(status="COMPLETED") == ["first"]
    assert await prompts(status="FAILED") == ["second"]
    assert await prompts(status="PENDING") == ["third"]
    assert await prompts(model_name="other") == []


@pytest.mark.parametrize(
    "query",
    [
        {"per_page": "0"},
        {"per_page": "101"},
        {"page": "-1"},
        {"from_date": "15.10.2026"},
        {"from_date": "2026-01-01", "to_date": "2026-03-01"},
        {"from_date": "2026-03-02", "to_date": "2026-03-01"},
        {"status": "DONE"},
    ],
)
async def test_a_bad_history_query_is_400(caller: Caller, query: dict[str, Any]) -> None:
    assert (await caller.get(HISTORY, **query))[0] == 400


async def test_history_by_id_knows_requests_of_any_age(session: aiohttp.ClientSession) -> None:
    clock = Clock()
    async with Sandbox(Options(latency=Fixed(0)), clock=clock) as sandbox:
        caller = Caller(session, sandbox)
        _, accepted = await caller.post(prompt="a fox")
        clock.time = NOW + 40 * 86400
        status, row = await caller.get(f"{HISTORY}/{accepted['request_id']}")
        total = (await caller.get(HISTORY))[1]["total"]
        dates = {"from_date": "2026-10-15", "to_date": "2026-10-15"}
        old = (await caller.get(HISTORY, **dates))[1]["total"]

    assert (status, total, old) == (200, 0, 1)
    assert row["model_status"] == "COMPLETED"


async def test_history_rows_land_late(session: aiohttp.ClientSession) -> None:
    clock = Clock()
    async with Sandbox(Options(history_delay_s=90), clock=clock) as sandbox:
        caller = Caller(session, sandbox)
        _, accepted = await caller.post(prompt="a fox")
        by_id = f"{HISTORY}/{accepted['request_id']}"
        early = [(await caller.get(HISTORY))[1]["total"], (await caller.get(by_id))[0]]
        clock.time += 90
        late = [(await caller.get(HISTORY))[1]["total"], (await caller.get(by_id))[0]]

    assert early == [0, 404]
    assert late == [1, 200]


@pytest.mark.parametrize(("mode", "statuses"), [("down", (503, 503)), ("empty", (200, 404))])
async def test_the_history_can_be_down_or_empty(
    session: aiohttp.ClientSession, mode: Any, statuses: tuple[int, int]
) -> None:
    async with Sandbox(Options(history=mode)) as sandbox:
        caller = Caller(session, sandbox)
        _, accepted = await caller.post(prompt="a fox")
        page_status, page = await caller.get(HISTORY)
        row_status, _ = await caller.get(f"{HISTORY}/{accepted['request_id']}")

    assert (page_status, row_status) == statuses
    assert not page.get("data")


# Memory


async def test_a_restarted_sandbox_remembers_what_it_accepted(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    options = Options(latency=Fixed(0), credits=1.0, journal=tmp_path / "deep" / "journal.jsonl")
    async with Sandbox(options) as first:
        before = await Caller(session, first).result(prompt="a fox")
        await Caller(session, first).post(prompt="x [[never]]")
        known = dict(first.accepted)
    with options.journal.open("ab") as torn:
        torn.write(b'{"request_id": "half a li')

    async with Sandbox(options) as second:
        caller = Caller(session, second)
        _, after = await caller.get(f"/v2/requests/{before['request_id']}")
        await caller.post(prompt="a fox")
        balance = (await caller.get("/v1/get-user-credits"))[1]["credits"]
        remembered = dict(second.accepted)
        most = second.stats()["max_per_body"]
    async with Sandbox(options) as third:
        assert len(third.accepted) == 3

    assert {key: remembered[key].finished_at for key in known} == {
        key: record.finished_at for key, record in known.items()
    }
    assert after["output"].split("/")[-2:] == before["output"].split("/")[-2:]
    assert most == 2
    assert balance == 0.92


async def test_accepted_requests_can_be_read_by_other_processes(caller: Caller) -> None:
    _, accepted = await caller.post(prompt="a fox")

    async with caller.session.get(f"{caller.sandbox.url}/sandbox/accepted") as answer:
        rows = [json.loads(line) for line in (await answer.text()).splitlines()]

    assert [row["request_id"] for row in rows] == [accepted["request_id"]]
    assert rows[0]["body"] == {"prompt": "a fox"}
    assert (rows[0]["state"], rows[0]["cost"]) == ("COMPLETED", 0.04)


async def test_what_was_asked_and_answered_is_kept(caller: Caller) -> None:
    _, accepted = await caller.post(prompt="a fox")
    await caller.get("/v2/requests/unknown")

    first, second = caller.sandbox.requests

    assert (first.method, first.path, first.status) == ("POST", "/v2/imagen", 200)
    assert first.request_id == accepted["request_id"]
    assert (second.route, second.status, second.request_id) == ("result", 404, "unknown")
    assert first.has_key


# Starting and stopping


async def test_stopping_does_not_wait_for_hanging_answers(session: aiohttp.ClientSession) -> None:
    sandbox = Sandbox(AT_ONCE)
    await sandbox.start()
    caller = Caller(session, sandbox)
    slow = asyncio.create_task(caller.post(prompt="x [[slow-answer]]"))
    await asyncio.sleep(0.1)

    began = time.monotonic()
    await sandbox.stop()
    await asyncio.wait([slow])
    slow.exception()

    assert time.monotonic() - began < 1.0
    assert len(sandbox.accepted) == 1


async def test_a_taken_port_is_an_os_error_and_leaves_nothing_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await Sandbox().start(port=taken.getsockname()[1])


def test_a_sandbox_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = Sandbox().url


@pytest.mark.parametrize(
    "wrong", [{"fail_rate": 2}, {"fail_rate": 0.6, "block_rate": 0.6}, {"window_s": 0}]
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


# Latency


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("0", Fixed(0)),
        ("0s", Fixed(0)),
        ("2s", Lognormal(2, 0.4)),
        ("1.5m", Lognormal(90, 0.4)),
        ("fixed:300ms", Fixed(0.3)),
        ("lognormal:12s,0.6", Lognormal(12, 0.6)),
        ("bimodal:10s, 60s, 0.2", Bimodal(10, 60, 0.2)),
        ("servers:8,12s", Servers(8, 12)),
    ],
)
def test_a_latency_is_read(text: str, latency: object) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "-1s",
        "fast",
        "fixed:",
        "fixed:2",
        "servers:0,1s",
        "servers:1",
        "bimodal:1s,2s,2",
        "lognormal:1s,x",
        "lognormal:1s,nan",
        "gamma:1s",
    ],
)
def test_an_unreadable_latency_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is not"):
        parse_latency(text)


def test_a_queue_makes_jobs_wait_for_a_free_server() -> None:
    schedule = Schedule(Servers(2, 10))
    rng = Random(1)

    plans = [schedule.plan(NOW, rng) for _ in range(6)]

    assert [started == NOW for started, _ in plans] == [True, True, False, False, False, False]
    assert plans[2][0] == min(plans[0][1], plans[1][1])
    assert max(finished for _, finished in plans) > NOW + 20
