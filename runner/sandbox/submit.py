"""`POST /v2/{model}`: every accepted one is a new billable job, whatever is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal
from uuid import uuid4

from aiohttp import web

from runner.sandbox import catalogue, uploads
from runner.sandbox.answers import (
    auth_error,
    drop,
    error_answer,
    html_answer,
    json_answer,
)
from runner.sandbox.book import Accepted, Outcome
from runner.sandbox.markers import body_key, draw_markers, find_markers
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation

FOREIGN_ORIGIN = "http://127.0.0.2:9"

_FAILURES = (
    "Inference failed: CUDA out of memory",
    "Inference failed: worker stopped responding",
    "Internal error while running the model",
)
_BLOCKS = (
    "The prompt was blocked by Responsible AI safety filter (RAI). Please rephrase it.",
    "Image generation failed: all images were filtered out because they violated "
    "Responsible AI practices. Support codes: 58061214",
    "Content policy violation: the request was flagged by the safety system",
)


@dataclass(frozen=True, slots=True)
class PostFault:
    """What goes wrong with one POST: whether it was accepted all the same, and what is answered.

    `manner` says how; `status` and `text` are for those manners that have them.
    """

    manner: Literal["json", "page", "drop", "reset", "rate", "auth", "echo", "no-id", "slow"]
    accepted: bool = False
    status: int = 0
    text: str = ""
    first_only: bool = False


FAULTS: Mapping[str, PostFault] = {
    "lost-before": PostFault("reset"),
    "429": PostFault("rate", first_only=True),
    "401": PostFault("auth"),
    "400": PostFault("json", status=400, text="Malformed request"),
    "key-echo": PostFault("echo"),
    "403": PostFault("json", status=403, text="Model is not permitted for this account"),
    "404": PostFault("json", status=404, text="Model not found"),
    "405": PostFault("page", status=405, text="Method Not Allowed"),
    "406-credits": PostFault("json", status=406, text="Insufficient credits"),
    "406-limit": PostFault("json", status=406, text="Team spend limit reached"),
    "406-param": PostFault("json", status=406, text="Invalid value for parameter 'style': 'x'"),
    "410": PostFault("json", status=410, text="Model has been retired"),
    "500": PostFault("json", status=500, text="Internal server error"),
    "500-once": PostFault("json", status=500, text="Internal server error", first_only=True),
    "503": PostFault("json", status=503, text="Service temporarily unavailable"),
    "503-once": PostFault("json", status=503, text="Service unavailable", first_only=True),
    "502-refused": PostFault("page", status=502, text="Bad Gateway"),
    "lost": PostFault("drop", accepted=True),
    "lost-once": PostFault("drop", accepted=True, first_only=True),
    "502": PostFault("page", accepted=True, status=502, text="Bad Gateway"),
    "502-once": PostFault("page", True, 502, "Bad Gateway", first_only=True),
    "504": PostFault("page", accepted=True, status=504, text="Gateway Time-out"),
    "not-json": PostFault("page", accepted=True, status=200, text="Welcome"),
    "no-id": PostFault("no-id", accepted=True),
    "slow-answer": PostFault("slow", accepted=True),
}
"""Refusals stand before acceptances: where a prompt has both, nothing is billed."""


@dataclass(frozen=True, slots=True)
class _Post:
    model: str
    body: dict[str, Any]
    body_key: str
    markers: frozenset[str]
    attempt: int
    rng: Random


async def submit(simulation: Simulation, request: Request, model: str) -> web.Response:
    """Answer one POST."""
    if request.content_type != "application/json":
        return error_answer(406, "Invalid content type")
    raw = await request.read()
    if refusal := catalogue.refuse_model(model):
        return error_answer(*refusal)
    body = _parsed(raw)
    if body is None:
        return error_answer(400, "Malformed JSON: the body must be an object")
    if refusal := catalogue.refuse_params(model, body):
        return error_answer(*refusal)
    post = _post(simulation, model, body, raw)
    fault = _fault(post)
    if fault and not fault.accepted:
        return _refused(simulation, request, fault)
    now = simulation.now()
    if not simulation.book.can_afford_one_more(now):
        return error_answer(406, "Insufficient credits")
    record = _accept(simulation, post, now)
    request.accepted_id = record.request_id
    return await _accepted(simulation, request, record, fault)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _post(simulation: Simulation, model: str, body: dict[str, Any], raw: bytes) -> _Post:
    key = body_key(model, body)
    posts = simulation.book.posts_by_body
    attempt = posts[key]
    posts[key] = attempt + 1
    # A generator of its own for every POST: its fate does not depend on the order of arrival.
    rng = Random(f"{simulation.options.seed}:{key}:{attempt}")
    markers = find_markers(raw, body) | draw_markers(simulation.options, rng)
    return _Post(model, body, key, markers, attempt, rng)


def _fault(post: _Post) -> PostFault | None:
    if not post.markers:
        return None
    for name, fault in FAULTS.items():
        if name in post.markers and not (fault.first_only and post.attempt > 0):
            return fault
    return None


def _refused(simulation: Simulation, request: Request, fault: PostFault) -> web.Response:
    match fault.manner:
        case "reset":
            return drop(request, reset=True)
        case "rate":
            return simulation.rate_limited()
        case "auth":
            return auth_error("The API key is not valid")
        case "echo":
            key = request.headers.get("x-api-key")
            return error_answer(400, f"Bad request; headers: {{'x-api-key': '{key}'}}")
        case "page":
            return html_answer(fault.status, fault.text)
    return error_answer(fault.status, fault.text)


def _accept(simulation: Simulation, post: _Post, now: float) -> Accepted:
    started_at, finished_at = simulation.schedule.plan(now, post.rng)
    outcome: Outcome = "completed"
    error = uploads.unusable_input(simulation, post.body)
    if error is not None:
        outcome = "failed"
    elif "block" in post.markers:
        outcome, error = "blocked", post.rng.choice(_BLOCKS)
    elif post.markers & {"fail", "fail-key-echo"}:
        outcome, error = "failed", post.rng.choice(_FAILURES)
    elif "never" in post.markers:
        outcome, finished_at = "never", float("inf")
    record = Accepted(
        request_id=str(uuid4()),
        model=post.model,
        body=post.body,
        body_key=post.body_key,
        time=now,
        started_at=started_at,
        finished_at=finished_at,
        outcome=outcome,
        cost=simulation.options.cost_of(post.model) if outcome == "completed" else 0.0,
        occurrence=simulation.book.accepted_by_body[post.body_key],
        error=error,
        markers=post.markers,
    )
    simulation.journal.write(record)
    simulation.book.add(record)
    return record


async def _accepted(
    simulation: Simulation, request: Request, record: Accepted, fault: PostFault | None
) -> web.Response:
    origin = FOREIGN_ORIGIN if "foreign-url" in record.markers else simulation.origin
    body = {
        "request_id": record.request_id,
        "status": "QUEUED",
        "poll_url": f"{origin}/v1/requests/{record.request_id}",
        "status_url": f"{origin}/v2/requests/{record.request_id}/status",
        "response_url": f"{origin}/v2/requests/{record.request_id}",
    }
    match fault:
        case PostFault(manner="drop"):
            return drop(request)
        case PostFault(manner="page"):
            return html_answer(fault.status, fault.text)
        case PostFault(manner="no-id"):
            return json_answer({"status": "QUEUED"})
        case PostFault(manner="slow"):
            await simulation.nap(simulation.options.slow_s)
    # Both codes are seen in the wild.
    return json_answer(body, 200 if record.occurrence % 2 == 0 else 202)
