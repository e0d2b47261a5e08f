"""What each answer means: the status-code table, row by row, and never a second payment."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import answer, html, never_left, no_answer

from runner.job import Answer, Fault
from runner.policy.verdict import (
    Meaning,
    cost_of,
    describe,
    error_text,
    judge_poll,
    judge_submit,
)

ACCEPTED = {"request_id": "8e0e8c3a", "status": "QUEUED", "poll_url": "https://elsewhere/x"}
ERROR = {"error": "something is wrong"}
AUTH_ERROR = {"error": "unauthorized", "error_description": "Bad key", "status_code": 401}
BROKEN_OFF = Answer(200, None, "the answer broke off: {", Fault.UNREADABLE)
UNREADABLE = Answer(200, None, "an HTML page", Fault.UNREADABLE)

SUBMIT = [
    # accepted
    (answer(200, ACCEPTED), Meaning.ACCEPTED),
    (answer(202, ACCEPTED), Meaning.ACCEPTED),
    (answer(201, ACCEPTED), Meaning.ACCEPTED),
    (answer(200, {"request_id": "x"}), Meaning.ACCEPTED),
    (answer(200, {**ACCEPTED, "status": "FAILED"}), Meaning.ACCEPTED),
    # taken, perhaps: nobody can tell
    (answer(200, {"status": "QUEUED"}), Meaning.IN_DOUBT),
    (answer(200, {"request_id": ""}), Meaning.IN_DOUBT),
    (answer(200, {"request_id": "  "}), Meaning.IN_DOUBT),
    (answer(200, {"request_id": None}), Meaning.IN_DOUBT),
    (answer(200, {"request_id": 17}), Meaning.IN_DOUBT),
    (answer(200, ERROR), Meaning.IN_DOUBT),
    (answer(200, ["request_id"]), Meaning.IN_DOUBT),
    (answer(204), Meaning.IN_DOUBT),
    (BROKEN_OFF, Meaning.IN_DOUBT),
    (UNREADABLE, Meaning.IN_DOUBT),
    (answer(202, None, "OK"), Meaning.IN_DOUBT),
    (no_answer(), Meaning.IN_DOUBT),
    (no_answer("timeout"), Meaning.IN_DOUBT),
    (Answer(None), Meaning.IN_DOUBT),
    (answer(408, ERROR), Meaning.IN_DOUBT),
    (answer(504, ERROR), Meaning.IN_DOUBT),
    (html(504), Meaning.IN_DOUBT),
    (answer(502, ERROR), Meaning.IN_DOUBT),
    (html(502), Meaning.IN_DOUBT),
    (html(500), Meaning.IN_DOUBT),
    (html(503), Meaning.IN_DOUBT),
    (answer(500, None, "Internal Server Error"), Meaning.IN_DOUBT),
    (answer(500, {}), Meaning.IN_DOUBT),
    (answer(500, ["error"]), Meaning.IN_DOUBT),
    (answer(500, {"error": ""}), Meaning.IN_DOUBT),
    (answer(503, {"error": None}), Meaning.IN_DOUBT),
    (Answer(500, None, "the answer broke off: {", Fault.UNREADABLE), Meaning.IN_DOUBT),
    (answer(501, ERROR), Meaning.IN_DOUBT),
    (answer(520, ERROR), Meaning.IN_DOUBT),
    (answer(524, ERROR), Meaning.IN_DOUBT),
    (answer(599, ERROR), Meaning.IN_DOUBT),
    # refused for now
    (answer(500, ERROR), Meaning.REFUSED),
    (answer(503, ERROR), Meaning.REFUSED),
    (answer(500, {"error": {"message": "overloaded"}}), Meaning.REFUSED),
    (answer(503, {"message": "overloaded"}), Meaning.REFUSED),
    # never left
    (never_left(), Meaning.NEVER_LEFT),
    (never_left("getaddrinfo failed"), Meaning.NEVER_LEFT),
    (never_left("certificate verify failed"), Meaning.NEVER_LEFT),
    # the table
    (answer(400, ERROR), Meaning.INVALID),
    (answer(400, None, "Bad Request"), Meaning.INVALID),
    (answer(401, AUTH_ERROR), Meaning.KEY_REFUSED),
    (html(401), Meaning.KEY_REFUSED),
    (answer(402, ERROR), Meaning.OUT_OF_CREDITS),
    (answer(403, ERROR), Meaning.MODEL_CLOSED),
    (answer(404, ERROR), Meaning.MODEL_CLOSED),
    (html(405), Meaning.FAILED),
    (answer(406, {"error": "Invalid content type"}), Meaning.FAILED),
    (answer(406, {"error": "Insufficient credits"}), Meaning.OUT_OF_CREDITS),
    (answer(406, {"error": "aspect_ratio must be one of 16:9, 1:1"}), Meaning.INVALID),
    (answer(410, ERROR), Meaning.MODEL_CLOSED),
    (answer(413, ERROR), Meaning.INVALID),
    (answer(422, ERROR), Meaning.INVALID),
    (answer(429, ERROR), Meaning.RATE_LIMITED),
    (html(429), Meaning.RATE_LIMITED),
    (Answer(429, None, "", Fault.UNREADABLE), Meaning.RATE_LIMITED),
    # what nobody documents is final and costs nothing more
    (answer(301), Meaning.FAILED),
    (answer(307), Meaning.FAILED),
    (answer(409, ERROR), Meaning.FAILED),
    (answer(418, ERROR), Meaning.FAILED),
]


def shown(given: Any) -> str | None:
    if isinstance(given, Answer):
        return f"{given.status or given.fault}-{given.text[:30]}"
    return given.name if isinstance(given, Meaning) else None


@pytest.mark.parametrize(("given", "meaning"), SUBMIT, ids=shown)
def test_the_answer_to_a_submit_means(given: Answer, meaning: Meaning):
    assert judge_submit(given).meaning is meaning


def test_every_documented_code_of_a_submit_has_a_row():
    documented = {200, 202, 400, 401, 403, 404, 405, 406, 410, 429, 500, 502, 503, 504}
    assert documented <= {given.status for given, _ in SUBMIT}


def test_an_accepted_submit_brings_its_request_id():
    assert judge_submit(answer(200, {"request_id": " abc "})).request_id == "abc"


@given(
    status=st.integers(100, 599),
    body=st.none() | st.just(ERROR) | st.just(ACCEPTED) | st.just([]) | st.text(max_size=5),
    fault=st.sampled_from([None, Fault.UNREADABLE, Fault.NO_ANSWER]),
)
def test_only_answers_that_refuse_let_a_job_be_sent_again(
    status: int, body: Any, fault: Fault | None
):
    verdict = judge_submit(Answer(status, body, "", fault))
    if verdict.meaning is Meaning.REFUSED:
        assert status in (500, 503)
        assert body
    if verdict.meaning is Meaning.RATE_LIMITED:
        assert status == 429
    assert verdict.meaning is not Meaning.NEVER_LEFT
    assert verdict.meaning is not Meaning.ACCEPTED or verdict.request_id


OUT_OF_CREDITS = [
    "Insufficient credits",
    "insufficient credit balance",
    "insufficient_credits",
    "INSUFFICIENT-CREDITS",
    "Insufficient account balance, please top up",
    "Insufficient funds",
    "You have insufficient API credits to run this model",
    "Not enough credits",
    "Not enough API credits to run this model",
    "You do not have enough credits",
    "You don't have enough credits",
    "You don’t have enough credits",
    "You are out of credits",
    "No credits left",
    "No remaining credits",
    "Credits exhausted",
    "Your credits are exhausted",
    "Your credits have been used up",
    "Your credits have run out",
    "Your balance is too low",
    "Account balance is insufficient",
    "Team spend limit reached",
    "Your team has exceeded its spending limit",
    "team_spend_limit_exceeded",
    "Spending cap reached",
    "Monthly spend limit of $50 exceeded",
    "The team limit was reached",
    "Team monthly limit exceeded",
    "Monthly budget exceeded",
    "Your team budget is used up",
    "Daily quota exceeded",
    "Credit limit exceeded",
]


@pytest.mark.parametrize("text", OUT_OF_CREDITS)
@pytest.mark.parametrize("shape", ["json", "plain"])
def test_a_406_about_money_pauses_the_run(text: str, shape: str):
    given = answer(406, {"error": text}) if shape == "json" else answer(406, None, text)
    assert judge_submit(given).meaning is Meaning.OUT_OF_CREDITS


@pytest.mark.parametrize(
    "text",
    [
        "Invalid value for aspect_ratio",
        "prompt is required",
        "num_inference_steps: limit is 100",
        "seed must be lower than the limit",
        "Value for safety_filter_level not permitted",
        "the parameter `team` is unknown",
        "image_count exceeds the maximum of 4",
        "Prompt is too long: the limit is 4000 characters",
        "",
    ],
)
def test_a_406_about_a_parameter_makes_the_job_invalid(text: str):
    assert judge_submit(answer(406, {"error": text})).meaning is Meaning.INVALID


@pytest.mark.parametrize(
    "text", ["Invalid content type", "invalid Content-Type header", "INVALID CONTENT TYPE: text"]
)
def test_a_406_about_the_content_type_is_no_fault_of_the_parameters(text: str):
    assert judge_submit(answer(406, {"error": text})).meaning is Meaning.FAILED


def failed(text: Any) -> dict[str, Any]:
    return {"status": "FAILED", "error": text, "metrics": {}}


DONE = {"status": "COMPLETED", "output": "https://x/a.png", "metrics": {"cost": 0.02}}

POLL = [
    (answer(200, {"status": "QUEUED"}), Meaning.RUNNING),
    (answer(200, {"status": "PROCESSING"}), Meaning.RUNNING),
    (answer(200, {"status": "processing"}), Meaning.RUNNING),
    (answer(202, {"status": "QUEUED"}), Meaning.RUNNING),
    (answer(200, {"status": "STARTING"}), Meaning.RUNNING),
    (answer(200, {"status": "CANCELLED"}), Meaning.RUNNING),
    (answer(200, {"status": ""}), Meaning.RUNNING),
    (answer(200, {"status": "QUEUED", "output": "x"}), Meaning.RUNNING),
    # a body that announces the end is valid whatever the code
    *[(answer(code, DONE), Meaning.COMPLETED) for code in (200, 202, 400, 404, 422, 429, 500, 504)],
    *[(answer(code, failed("x")), Meaning.FAILED) for code in (200, 404, 422, 429, 500, 503)],
    (answer(200, {"status": "completed"}), Meaning.COMPLETED),
    (answer(200, {"output": "https://x/a.png"}), Meaning.COMPLETED),
    (answer(200, {"output": None}), Meaning.UNREADABLE),
    (answer(422, {"status": "FAILED"}), Meaning.FAILED),
    (answer(422, failed("blocked by the safety system")), Meaning.BLOCKED),
    # the table
    (answer(401, AUTH_ERROR), Meaning.KEY_REFUSED),
    (html(401), Meaning.KEY_REFUSED),
    (answer(404, {"error": "Request 8e0e not found"}), Meaning.NOT_FOUND),
    (html(404), Meaning.NOT_FOUND),
    (answer(410, ERROR), Meaning.NOT_FOUND),
    (answer(429, ERROR), Meaning.RATE_LIMITED),
    (Answer(429, None, "broke off", Fault.UNREADABLE), Meaning.RATE_LIMITED),
    (answer(500, ERROR), Meaning.UNREADABLE),
    (html(502), Meaning.UNREADABLE),
    (answer(503, ERROR), Meaning.UNREADABLE),
    (html(504), Meaning.UNREADABLE),
    (html(405), Meaning.UNREADABLE),
    (answer(400, ERROR), Meaning.UNREADABLE),
    (answer(403, ERROR), Meaning.UNREADABLE),
    (answer(406, ERROR), Meaning.UNREADABLE),
    (answer(422, ERROR), Meaning.UNREADABLE),
    (answer(302), Meaning.UNREADABLE),
    # asking again is free, so nothing else is an end
    (UNREADABLE, Meaning.UNREADABLE),
    (BROKEN_OFF, Meaning.UNREADABLE),
    (answer(200, {}), Meaning.UNREADABLE),
    (answer(200, []), Meaning.UNREADABLE),
    (answer(200, {"status": 3}), Meaning.UNREADABLE),
    (no_answer(), Meaning.UNREADABLE),
    (Answer(None), Meaning.UNREADABLE),
    (never_left(), Meaning.NEVER_LEFT),
]


@pytest.mark.parametrize(("given", "meaning"), POLL, ids=shown)
def test_the_answer_to_a_poll_means(given: Answer, meaning: Meaning):
    assert judge_poll(given).meaning is meaning


def test_every_documented_code_of_a_poll_has_a_row():
    documented = {200, 202, 400, 401, 403, 404, 405, 406, 410, 422, 429, 500, 502, 503, 504}
    assert documented <= {given.status for given, _ in POLL}


@given(status=st.integers(100, 599), state=st.text(max_size=12))
def test_a_state_that_is_not_an_end_never_ends_a_job(status: int, state: str):
    meaning = judge_poll(answer(status, {"status": state})).meaning
    ends = {Meaning.COMPLETED, Meaning.FAILED, Meaning.BLOCKED, Meaning.INVALID}
    assert meaning not in ends or state.upper() in ("COMPLETED", "FAILED")


@pytest.mark.parametrize(
    "text",
    [
        "Content blocked by RAI filter",
        "RAI: the prompt was rejected",
        "raiFilteredReason: unable to show generated images",
        "Responsible AI: request refused",
        "Your prompt violates Google's Responsible AI practices",
        "Request blocked by safety filters",
        "The image was blocked because of safety settings",
        "The request was blocked.",
        "Output blocked for safety",
        "Safety filter triggered",
        "Unsafe content detected",
        "NSFW content detected",
        "content_filter",
        "content-filter: hate",
        "Content policy violation",
        "This prompt violates our content policy",
        "The prompt violates our usage guidelines",
        "Violates the usage policies",
        "All images were filtered out because they violated Vertex AI's usage guidelines",
        "All generated images were filtered",
        "Rejected by moderation",
        "Flagged by the content moderation system",
        "PROHIBITED_CONTENT",
        "The prompt contains sensitive words",
        "Inappropriate content in the prompt",
    ],
)
def test_a_failure_by_the_content_filter_is_a_block(text: str):
    verdict = judge_poll(answer(422, failed(text)))
    assert verdict.meaning is Meaning.BLOCKED
    assert verdict.reason == text


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory",
        "Internal model error",
        "Worker timed out after 300 s",
        "train failed: could not raise enough workers",
        "Invalid value for safety_filter_level: NONE",
        "safety_filter_level must be one of BLOCK_LOW_AND_ABOVE, BLOCK_ONLY_HIGH",
        "person_generation: ALLOW_ALL is not permitted",
        "Parameter names are case-sensitive",
        "aspect_ratio is case sensitive",
        "Input image could not be loaded",
    ],
)
def test_any_other_failure_is_none(text: str):
    assert judge_poll(answer(422, failed(text))).meaning is Meaning.FAILED


@pytest.mark.parametrize("nothing", [None, "", "  ", {}, [], 0])
def test_a_failure_without_a_reason_says_so(nothing: Any):
    assert "without a reason" in judge_poll(answer(422, failed(nothing))).reason


def test_a_structured_reason_is_told_and_read_like_any_other():
    verdict = judge_poll(answer(422, failed({"code": "RAI", "stage": "prompt"})))
    assert verdict.meaning is Meaning.BLOCKED
    assert "prompt" in verdict.reason
    assert judge_poll(answer(422, failed(["no", "worker"]))).reason == '["no", "worker"]'


@pytest.mark.parametrize(
    ("cost", "dollars"),
    [(0.02, 0.02), (0, 0.0), (3, 3.0), (1e-9, 1e-9)],
)
def test_the_cost_is_read_from_the_metrics(cost: float, dollars: float):
    body = {"status": "COMPLETED", "metrics": {"cost": cost}}
    assert judge_poll(answer(200, body)).cost == dollars


@pytest.mark.parametrize(
    "cost", [None, "0.02", -1, True, [], {}, math.nan, math.inf, -math.inf, 10**400, -(10**400)]
)
def test_an_odd_cost_is_no_cost(cost: Any):
    assert cost_of({"metrics": {"cost": cost}}) is None


@pytest.mark.parametrize("body", [None, [], "x", {}, {"metrics": None}, {"metrics": [1]}, 3.5])
def test_odd_metrics_are_no_cost(body: Any):
    assert cost_of(body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (AUTH_ERROR, "Bad key"),
        ({"error": " spaced "}, "spaced"),
        ({"error": {"message": "nested"}}, "nested"),
        ({"message": "hello"}, "hello"),
        ({"detail": "told"}, "told"),
        ({"error": "", "message": "second"}, "second"),
        ({"error": 5}, ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_the_words_of_an_error_body_are(body: Any, words: str):
    assert error_text(body) == words


def test_an_answer_is_described_in_one_line():
    assert describe(answer(406, {"error": "two\n  lines"})) == "HTTP 406: two lines"
    assert describe(html(502)) == "HTTP 502: an HTML page (Bad Gateway)"
    assert describe(no_answer("timeout")) == "timeout"
    assert describe(Answer(500)) == "HTTP 500"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["status", "error", "output", "metrics", "cost", "request_id", "detail"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(status=st.none() | st.integers(0, 999), body=json_values, text=st.text(max_size=20))
def test_no_answer_is_too_odd_to_be_judged(status: int | None, body: Any, text: str):
    given = Answer(status, body, text)
    assert judge_submit(given).meaning in Meaning
    assert judge_poll(given).meaning in Meaning
