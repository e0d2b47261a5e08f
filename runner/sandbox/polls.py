"""The two GETs that follow a submit: `…/status`, light, and the whole result."""

from __future__ import annotations

from aiohttp import web

from runner.sandbox import results
from runner.sandbox.answers import error_answer, html_answer, json_answer, transient_error
from runner.sandbox.book import Accepted
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation

_FAULTY_POLLS = 2
_ODD_STATE = "RETRYING"


async def status(simulation: Simulation, request: Request, request_id: str) -> web.Response:
    """Answer `GET /v2/requests/{id}/status`."""
    record = _living(simulation, request_id)
    if record is None:
        return _unknown(request_id)
    fault = await _fault(simulation, record)
    return fault or _status(simulation, request, record)


async def result(simulation: Simulation, request: Request, request_id: str) -> web.Response:
    """Answer `GET /v2/requests/{id}`; a job that still runs is told of as by its status."""
    record = _living(simulation, request_id)
    if record is None:
        return _unknown(request_id)
    if fault := await _fault(simulation, record):
        return fault
    now = simulation.now()
    if record.state(now) != "COMPLETED":
        return _status(simulation, request, record)
    if "result-404-once" in record.markers and record.result_misses == 0:
        record.result_misses += 1
        return _unknown(request_id)
    files = [
        await simulation.studio.file(record, n) for n in range(len(results.file_names(record)))
    ]
    numbers = results.metrics(record, now, simulation.book.balance(now))
    return json_answer(results.result_body(record, files, simulation.origin, numbers))


def _living(simulation: Simulation, request_id: str) -> Accepted | None:
    record = simulation.book.accepted.get(request_id)
    if record is None or "gone" in record.markers:
        return None
    if simulation.book.remaining_s(record, simulation.now()) <= 0:
        return None
    record.polls += 1
    return record


def _unknown(request_id: str) -> web.Response:
    return error_answer(404, f"Request {request_id} not found")


def _status(simulation: Simulation, request: Request, record: Accepted) -> web.Response:
    now = simulation.now()
    state = record.state(now)
    numbers = results.metrics(record, now, simulation.book.balance(now))
    if "poll-weird" in record.markers and record.polls <= _FAULTY_POLLS:
        state = _ODD_STATE
    elif state == "FAILED":
        key = request.headers.get("x-api-key")
        return json_answer(results.failure_body(record, numbers, key), 422)
    body = {"status": state, "request_id": record.request_id, "metrics": numbers}
    if state != "COMPLETED":
        base = f"{simulation.origin}/v2/requests/{record.request_id}"
        body["status_url"], body["response_url"] = f"{base}/status", base
    return json_answer(body)


async def _fault(simulation: Simulation, record: Accepted) -> web.Response | None:
    markers = record.markers
    if not markers:
        return None
    if "poll-500-always" in markers:
        return transient_error(500)
    if "poll-429" in markers and record.polls == 1:
        return simulation.rate_limited()
    if "poll-hang" in markers and record.polls == 1:
        await simulation.nap(simulation.options.hang_s)
    if record.polls <= _FAULTY_POLLS:
        if "poll-500" in markers:
            return transient_error(500)
        if "poll-html" in markers:
            return html_answer(200, "Just a moment")
    return None
