"""The request history: one row per output, failures included, of requests of any age."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from aiohttp import web

from runner.sandbox import results
from runner.sandbox.answers import error_answer, json_answer
from runner.sandbox.book import Accepted
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation

_MAX_DAYS = 31
_DEFAULT_DAYS = 7
_CUT_AT = 100
_STATUSES = ("COMPLETED", "FAILED", "PENDING")
_SORTS = ("model_created", "model_name", "credits_deduction")


@dataclass(frozen=True, slots=True)
class _Query:
    page: int
    per_page: int
    since: float
    until: float
    model_name: str
    status: str
    sort_by: str
    descending: bool


async def listing(simulation: Simulation, request: Request) -> web.Response:
    """Answer `GET /inference-request/request-history`."""
    if simulation.options.history == "down":
        return error_answer(503, "Request history is unavailable")
    try:
        query = _query(request.query, simulation.now())
    except ValueError as error:
        return error_answer(400, str(error))
    found = _matching(simulation, query)
    first = (query.page - 1) * query.per_page
    rows = [_row(simulation, *hit) for hit in found[first : first + query.per_page]]
    page = {"data": rows, "page": query.page, "per_page": query.per_page, "total": len(found)}
    return json_answer(page)


async def single(simulation: Simulation, request: Request, request_id: str) -> web.Response:
    """Answer `GET /inference-request/request-history/{id}`."""
    if simulation.options.history == "down":
        return error_answer(503, "Request history is unavailable")
    record = simulation.book.accepted.get(request_id)
    if record is None or not _landed(simulation, record, simulation.now()):
        return error_answer(404, f"Request {request_id} not found")
    return json_answer(_row(simulation, record, 0))


def _query(given: Mapping[str, str], now: float) -> _Query:
    today = datetime.fromtimestamp(now, UTC).date()
    last = _date(given, "to_date", today)
    first = _date(given, "from_date", last - timedelta(days=_DEFAULT_DAYS))
    if not timedelta(0) <= last - first <= timedelta(days=_MAX_DAYS):
        raise ValueError(f"from_date and to_date must span at most {_MAX_DAYS} days")
    return _Query(
        page=_integer(given, "page", 1, 10**9),
        per_page=_integer(given, "per_page", 20, 100),
        since=_midnight(first),
        until=_midnight(last + timedelta(days=1)),
        model_name=given.get("model_name", ""),
        status=_choice(given, "status", ("", *_STATUSES)),
        sort_by=_choice(given, "sort_by", _SORTS),
        descending=_choice(given, "sort_order", ("desc", "asc")) == "desc",
    )


def _integer(given: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ValueError(f"{name} must be a number from 1 to {most}")
    return int(text)


def _choice(given: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = given.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(filter(None, allowed))}")
    return value


def _date(given: Mapping[str, str], name: str, default: date) -> date:
    if name not in given:
        return default
    try:
        return datetime.strptime(given[name], "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError(f"{name} must be written YYYY-MM-DD") from None


def _midnight(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def _matching(simulation: Simulation, query: _Query) -> list[tuple[Accepted, int]]:
    now = simulation.now()
    records = list(_records(simulation, query, now))
    if query.sort_by == "model_name":
        records.sort(key=lambda record: record.model)
    elif query.sort_by == "credits_deduction":
        records.sort(key=lambda record: record.charged(now))
    if query.descending:
        records.reverse()
    return [(record, n) for record in records for n in range(_row_count(record, now))]


def _records(simulation: Simulation, query: _Query, now: float) -> Iterator[Accepted]:
    in_order = simulation.book.in_order
    first = bisect_left(in_order, query.since, key=lambda record: record.time)
    last = bisect_left(in_order, query.until, key=lambda record: record.time)
    for record in in_order[first:last]:
        if query.model_name and query.model_name not in record.model:
            continue
        if query.status and _model_status(record, now) != query.status:
            continue
        if _landed(simulation, record, now):
            yield record


def _landed(simulation: Simulation, record: Accepted, now: float) -> bool:
    if simulation.options.history == "empty" or "history-hidden" in record.markers:
        return False
    return now >= record.time + simulation.options.history_delay_s


def _model_status(record: Accepted, now: float) -> str:
    state = record.state(now)
    return state if state in ("COMPLETED", "FAILED") else "PENDING"


def _row_count(record: Accepted, now: float) -> int:
    if record.state(now) != "COMPLETED":
        return 1
    return max(len(results.file_names(record)), 1)


def _row(simulation: Simulation, record: Accepted, n: int) -> dict[str, Any]:
    now = simulation.now()
    status = _model_status(record, now)
    urls = results.file_urls(record, simulation.origin) if status == "COMPLETED" else []
    finished = status != "PENDING"
    as_text = "history-string" in record.markers
    body = _cut(record.body) if "history-cut" in record.markers else record.body
    row = {
        "request_id": record.request_id,
        "model_name": record.model,
        "model_status": status,
        "credits_deduction": record.charged(now),
        "request_body": json.dumps(body) if as_text else body,
        "generation_url": urls[n] if n < len(urls) else None,
        "latency_ms": round((record.finished_at - record.time) * 1000) if finished else None,
        "model_created": datetime.fromtimestamp(record.time, UTC).isoformat(),
        "error": record.error if status == "FAILED" else None,
    }
    if "history-no-time" in record.markers:
        del row["model_created"]
    return row


def _cut(body: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[:_CUT_AT] + "…"
        if isinstance(value, str) and value.startswith("data:")
        else value
        for name, value in body.items()
    }
