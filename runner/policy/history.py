"""What the request history says about jobs in doubt: which request is whose, and when none is.

Rows are read with every field optional; the list may come under several names or bare. Source: "The
request history" of the API's facts page.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ENVELOPES = ("data", "items", "results", "requests", "rows")
TIME_FIELDS = ("model_created", "created_at", "timestamp")
# The server's clock is known to the second only, and an answer may travel for a while.
TOLERANCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `created` in epoch seconds of the server's clock, `body` the inputs as sent."""

    request_id: str
    model: str | None
    status: str
    created: float | None
    body: Any
    url: str | None
    cost: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A job whose POST may have been accepted between `since` and `until`, in the server's time."""

    key: int
    model: str
    body: Any
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Matching:
    """Whose request is which, and for which jobs the rows show that there was none."""

    adopted: dict[int, Row]
    absent: frozenset[int]


def rows_of(body: Any) -> list[Row] | None:
    """The rows of a page, or None when it is no page of the history."""
    found = body if isinstance(body, list) else None
    if isinstance(body, dict):
        lists = [body[name] for name in ENVELOPES if isinstance(body.get(name), list)]
        nested = [rows_of(body[name]) for name in ENVELOPES if isinstance(body.get(name), dict)]
        if not lists and nested:
            return nested[0]
        found = lists[0] if lists else None
    if found is None:
        return None
    return [row for row in map(row_of, found) if row is not None]


def row_of(value: Any) -> Row | None:
    """One row, or None when it names no request."""
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        value = value["data"]
    if not isinstance(value, dict) or not isinstance(value.get("request_id"), str):
        return None
    body = value.get("request_body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            body = None
    cost = value.get("credits_deduction")
    is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
    url = value.get("generation_url")
    error = value.get("error")
    model = value.get("model_name")
    return Row(
        request_id=value["request_id"],
        model=model if isinstance(model, str) else None,
        status=str(value.get("model_status") or value.get("status") or "").upper(),
        created=_time_of(value),
        body=body if isinstance(body, dict) else None,
        url=url if isinstance(url, str) and url else None,
        cost=float(cost) if is_number and cost is not None else None,
        error=error if isinstance(error, str) else "",
    )


def reaches_back(rows: Sequence[Row], since: float) -> bool:
    """Whether a page, the newest rows first, shows that older pages hold nothing from after `since`."""
    times = [row.created for row in rows if row.created is not None]
    if len(times) != len(rows) or not times or times != sorted(times, reverse=True):
        return False
    return times[-1] < since - TOLERANCE_S


def match(doubts: Sequence[Doubt], rows: Sequence[Row], known: Collection[str]) -> Matching:
    """Gives each job in doubt a request of its own body and time that nobody has yet.

    Equal bodies are interchangeable and matched by count, in order of time. `known`: ids the ledger
    has. A row without a time is never taken: it may be a request of long ago. A job is absent when
    the rows show requests from after its window and none that could be its own.
    """
    free: dict[str, Row] = {}
    for row in rows:
        if row.request_id not in known:
            free.setdefault(row.request_id, row)
    by_body: dict[str, list[Row]] = defaultdict(list)
    for row in free.values():
        if row.body is not None:
            by_body[canonical(row.body)].append(row)
    adopted: dict[int, Row] = {}
    for doubt in sorted(doubts, key=lambda doubt: doubt.since):
        candidates = [row for row in by_body[canonical(doubt.body)] if _fits(row, doubt)]
        if candidates:
            row = min(candidates, key=lambda row: row.created or 0.0)
            adopted[doubt.key] = row
            by_body[canonical(doubt.body)].remove(row)
            del free[row.request_id]
    seen = max((row.created for row in rows if row.created is not None), default=0.0)
    absent = frozenset(
        doubt.key
        for doubt in doubts
        if doubt.key not in adopted
        and seen > doubt.until
        and nothing_suspicious(doubt, free.values(), ())
    )
    return Matching(adopted, absent)


def nothing_suspicious(doubt: Doubt, rows: Iterable[Row], known: Collection[str]) -> bool:
    """Whether no row that nobody has yet could be this job's request."""
    return not any(_might_be(row, doubt) for row in rows if row.request_id not in known)


def canonical(body: Any) -> str:
    """A body as text, the same for every way of writing the same values."""
    return json.dumps(_plain(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    # 7 and 7.0 are one number in JSON, whichever a server writes back.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _fits(row: Row, doubt: Doubt) -> bool:
    if row.created is None or (row.model is not None and row.model != doubt.model):
        return False
    return doubt.since - TOLERANCE_S <= row.created <= doubt.until + TOLERANCE_S


def _might_be(row: Row, doubt: Doubt) -> bool:
    """A row that is no proof of this job's request, and no proof that it is another's."""
    if row.model is not None and row.model != doubt.model:
        return False
    in_time = row.created is None or (
        doubt.since - TOLERANCE_S <= row.created <= doubt.until + TOLERANCE_S
    )
    if not in_time:
        return False
    if row.body is None:
        return True
    # A server may add its defaults to what was sent.
    own = _plain(doubt.body)
    theirs = _plain(row.body)
    return all(name in theirs and theirs[name] == value for name, value in own.items())


def _time_of(value: dict[str, Any]) -> float | None:
    for name in TIME_FIELDS:
        stamp = value.get(name)
        if isinstance(stamp, bool) or stamp is None:
            continue
        if isinstance(stamp, int | float):
            return float(stamp) / 1000 if stamp > 1e11 else float(stamp)
        if isinstance(stamp, str):
            try:
                moment = datetime.fromisoformat(stamp.strip())
            except ValueError:
                continue
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
