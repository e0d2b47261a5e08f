"""What every request passes before its route: path, verb, key, rate, general trouble."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from runner.sandbox import history, media, polls, submit
from runner.sandbox.answers import (
    auth_error,
    error_answer,
    html_answer,
    json_answer,
    transient_error,
)
from runner.sandbox.options import Options
from runner.sandbox.rate import SlidingWindow, Window
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation

_KEY = re.compile(r"SG_\S+")
_NO_LIMIT = Window(None, 60.0)


@dataclass(frozen=True, slots=True)
class Way:
    """Where a path leads: the route, what it takes of the path, and what it asks for."""

    name: str
    route: Callable[..., Awaitable[web.StreamResponse]]
    arguments: tuple[str, ...] = ()
    verb: str = "GET"
    rate: Literal["none", "submit", "poll", "history"] = "none"
    needs_key: bool = True

    @property
    def request_id(self) -> str | None:
        """The request id in the path."""
        return self.arguments[0] if self.name in ("status", "result", "history-row") else None


def way_of(path: str) -> Way:
    """Find the route of a path."""
    match path.strip("/").split("/"):
        case ["v2", "requests", request_id, "status"]:
            return Way("status", polls.status, (request_id,), rate="poll")
        case ["v2" | "v1", "requests", request_id]:
            return Way("result", polls.result, (request_id,), rate="poll")
        case ["v2", model] if model:
            return Way("submit", submit.submit, (model,), verb="POST", rate="submit")
        case ["v1", "get-user-credits"]:
            return Way("credits", _credits)
        case ["inference-request", "request-history"]:
            return Way("history", history.listing, rate="history")
        case ["inference-request", "request-history", request_id]:
            return Way("history-row", history.single, (request_id,), rate="history")
        case ["media", token, name]:
            return Way("media", media.serve, (token, name), needs_key=False)
        case ["sandbox", "stats"]:
            return Way("sandbox", _stats, needs_key=False)
        case ["sandbox", "accepted"]:
            return Way("sandbox", _accepted, needs_key=False)
    return Way("unknown", _unknown, needs_key=False)


async def lead(simulation: Simulation, request: Request, way: Way) -> web.StreamResponse:
    """Take a request to its route, unless something on the way stops it."""
    if way.name == "media" and _carries_key(request):
        simulation.log.key_leaks.append(f"{request.method} {request.path}")
    if not _verb_fits(request.method, way):
        return html_answer(405, "Method Not Allowed")
    if way.needs_key and (refusal := _key_refusal(simulation.options, request)):
        return auth_error(refusal)
    now, window = simulation.now(), _window(simulation, way)
    if window is simulation.api_window:
        simulation.log.arrived(now)
    if not window.take(now):
        if window is simulation.api_window:
            simulation.log.rate_limited(now, window.ends_at(now))
        return simulation.rate_limited(window)
    # A submit throws its own dice, for some of its errors accept the job.
    suffers = way.name not in ("submit", "sandbox", "unknown")
    if suffers and simulation.rng.random() < simulation.options.error_rate:
        return transient_error(simulation.rng.choice((500, 502, 503)))
    return await way.route(simulation, request, *way.arguments)


def _carries_key(request: Request) -> bool:
    return "x-api-key" in request.headers or "Authorization" in request.headers


def _verb_fits(method: str, way: Way) -> bool:
    if way.name == "unknown":
        return True
    return method == way.verb or (way.name == "media" and method == "HEAD")


def _key_refusal(options: Options, request: Request) -> str | None:
    if request.headers.get("Authorization", "").startswith("Bearer"):
        return "Bearer tokens are not accepted, use the x-api-key header"
    key = request.headers.get("x-api-key")
    if not key:
        return "The x-api-key header is missing"
    if options.key is not None:
        good = hmac.compare_digest(key.encode(), options.key.encode())
    else:
        good = _KEY.fullmatch(key) is not None
    return None if good else "The API key is not valid"


def _window(simulation: Simulation, way: Way) -> Window | SlidingWindow:
    """The rate that a request counts against."""
    match way.rate:
        case "none":
            return _NO_LIMIT
        case "history":
            return simulation.history_window
        case "poll" if not simulation.options.count_polls:
            return _NO_LIMIT
    return simulation.api_window


async def _unknown(simulation: Simulation, request: Request) -> web.Response:
    return error_answer(404, "Not found")


async def _credits(simulation: Simulation, request: Request) -> web.Response:
    balance = simulation.book.balance(simulation.now())
    return json_answer({"credits": balance, "free-credits": 0})


async def _stats(simulation: Simulation, request: Request) -> web.Response:
    return json_answer(simulation.log.stats(simulation.book))


async def _accepted(simulation: Simulation, request: Request) -> web.Response:
    now = simulation.now()
    lines = [
        json.dumps(
            {
                "request_id": record.request_id,
                "model": record.model,
                "body": record.body,
                "time": record.time,
                "state": record.state(now),
                "cost": record.charged(now),
            }
        )
        for record in simulation.book.in_order
    ]
    text = "".join(f"{line}\n" for line in lines)
    return web.Response(text=text, content_type="application/jsonl")
