"""What the request history says about jobs in doubt: which request is whose, and when none is.

Rows are read with every field optional; the list may come under several names or bare. Source: "The
request history" of the API's facts page.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any, TypeGuard

from runner.references import could_be, digested

ENVELOPES = ("data", "items", "results", "requests", "rows")
TIME_FIELDS = ("model_created", "created_at", "timestamp")
DATE_LENGTH = len("2026-10-15")
# The server's clock is known to the second only, and an answer may travel for a while.
TOLERANCE_S = 30.0
# What is as near as this to a job's window is in it, for all that those clocks tell.
SURELY_S = 5.0
# A POST is accepted within this time, unless its computer slept over it: a window that is longer because
# nobody knows when a run died is little reason to take what came days later.
PROMPT_S = 120.0
# How long a window may be, and how far outside of it a request: whoever is nearer has his first.
NEAREST_FIRST = (
    (SURELY_S, SURELY_S),
    (PROMPT_S, 0.0),
    (PROMPT_S, SURELY_S),
    (inf, 0.0),
    (inf, SURELY_S),
    (inf, TOLERANCE_S),
)
# What a row's time stands for is not documented, and our own clock may have been set since: only a row
# that is so much older than a job's POST is surely of another request of the same body.
NEARBY_S = 600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `created` in epoch seconds of the server's clock, `body` the inputs as sent, digested."""

    request_id: str
    model: str | None
    status: str
    created: float | None
    body: Any
    url: str | None
    cost: float | None
    error: str
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A job whose POST may have been accepted between `since` and `until`, in the server's time.

    `is_dated` False: only our own clock says so, which may have been wrong.
    """

    key: int
    model: str
    body: Any
    since: float
    until: float
    is_dated: bool = True


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
        if not lists:
            return next((rows for rows in nested if rows is not None), None)
        found = lists[0]
    if found is None:
        return None
    return [row for row in map(row_of, found) if row is not None]


def row_of(value: Any) -> Row | None:
    """One row, or None when it names no request."""
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        value = value["data"]
    request_id = value.get("request_id") if isinstance(value, dict) else None
    if not isinstance(request_id, str) or not request_id.strip():
        return None
    body = value.get("request_body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            body = None
    cost, latency_ms = value.get("credits_deduction"), value.get("latency_ms")
    url, error, model = (value.get(name) for name in ("generation_url", "error", "model_name"))
    return Row(
        request_id=request_id.strip(),
        model=model if isinstance(model, str) else None,
        status=str(value.get("model_status") or value.get("status") or "").upper(),
        created=_time_of(value),
        body=digested(body) if isinstance(body, dict) else None,
        url=url if isinstance(url, str) and url else None,
        cost=float(cost) if _is_number(cost) else None,
        error=error if isinstance(error, str) else json.dumps(error) if error else "",
        latency_s=latency_ms / 1000 if _is_number(latency_ms) and latency_ms > 0 else None,
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def reaches_back(rows: Sequence[Row], since: float) -> bool:
    """Whether a page, the newest rows first, shows that older pages hold nothing from after `since`."""
    times = [row.created for row in rows if row.created is not None]
    if len(times) != len(rows) or not times or times != sorted(times, reverse=True):
        return False
    return times[-1] < since - TOLERANCE_S


def match(
    doubts: Sequence[Doubt],
    rows: Sequence[Row],
    known: Collection[str],
    *,
    guesses: bool = False,
) -> Matching:
    """Gives each job in doubt a request of its own body and time that nobody has yet.

    Equal bodies are interchangeable and matched by count. `known`: ids the ledger has. A row without a
    time is never taken: it may be a request of long ago. A job is absent when the rows show requests of
    its model from after its window and none that could be its own. A job whose time nobody knows takes
    what others leave, and nothing where that is more than such jobs could have, unless it `guesses`.
    """
    free: dict[str, Row] = {}
    # Whichever order the pages came in, the row that tells the most speaks for its request.
    for row in sorted(rows, key=_rank):
        if row.request_id not in known:
            free.setdefault(row.request_id, row)
    by_body: dict[str, list[Row]] = defaultdict(list)
    for row in free.values():
        if row.body is not None:
            by_body[canonical(row.body)].append(row)
    alike: dict[tuple[str, str], list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        alike[doubt.model, canonical(doubt.body)].append(doubt)
    adopted: dict[int, Row] = {}
    for (_, body), equal in sorted(alike.items(), key=lambda found: found[0]):
        fitting = [
            row for row in by_body[body] if row.request_id in free and _is_of_model(row, equal[0])
        ]
        found = _given(equal, fitting, guesses)
        adopted |= found
        for row in found.values():
            del free[row.request_id]
    absent = frozenset(
        doubt.key
        for doubt in doubts
        if doubt.key not in adopted
        and any(_is_later(row, doubt) for row in rows)
        and nothing_suspicious(doubt, free.values(), ())
    )
    return Matching(adopted, absent)


def _given(doubts: Sequence[Doubt], rows: Sequence[Row], guesses: bool) -> dict[int, Row]:
    """Requests of one model and body for its jobs; those whose time is known come first."""
    found = _shared_out([doubt for doubt in doubts if doubt.is_dated], rows)
    taken = {row.request_id for row in found.values()}
    left = [row for row in rows if row.request_id not in taken]
    undated = [doubt for doubt in doubts if not doubt.is_dated]
    if guesses or len(left) <= len(undated):
        # Of more than that some are of somebody else, and nothing tells which.
        found |= _shared_out(undated, left)
    return found


def _shared_out(doubts: Sequence[Doubt], rows: Sequence[Row]) -> dict[int, Row]:
    """Requests for as many of these jobs as can have one, by the job's key.

    What is nearer to a job's window is its own before what only the tolerance lets in, for the other's
    row may still come, and what came promptly before what came late; unless a job less among those that
    could have it would find one.
    """
    adopted: dict[int, Row] = {}
    for rivals, wanted in _apart(doubts, rows):
        nearest: dict[int, Row] = {}
        for within_s, tolerance_s in NEAREST_FIRST:
            taken = {row.request_id for row in nearest.values()}
            left = [doubt for doubt in rivals if doubt.key not in nearest]
            free = [row for row in wanted if row.request_id not in taken]
            nearest |= _sweep(left, free, tolerance_s, within_s)
        most = _sweep(rivals, wanted, TOLERANCE_S)
        adopted |= nearest if len(nearest) == len(most) else most
    return adopted


def _apart(doubts: Sequence[Doubt], rows: Sequence[Row]) -> Iterator[tuple[list[Doubt], list[Row]]]:
    """Jobs whose windows touch, with the rows in them, each in order of time; no other could have those."""
    dated = sorted((row for row in rows if row.created is not None), key=_age)
    times = [row.created or 0.0 for row in dated]
    rivals: list[Doubt] = []
    last = -inf

    def all_of_them() -> tuple[list[Doubt], list[Row]]:
        first = rivals[0].since - TOLERANCE_S
        return rivals, dated[bisect_left(times, first) : bisect_right(times, last)]

    for doubt in sorted(doubts, key=lambda doubt: (doubt.since, doubt.key)):
        if rivals and doubt.since - TOLERANCE_S > last:
            yield all_of_them()
            rivals = []
        rivals.append(doubt)
        last = max(last, doubt.until + TOLERANCE_S)
    if rivals:
        yield all_of_them()


def _sweep(
    doubts: Sequence[Doubt], rows: Sequence[Row], tolerance_s: float, within_s: float = inf
) -> dict[int, Row]:
    """Each request for the job whose window ends first: so the most find one. Both in order of time."""
    to_come = deque(doubts)
    waiting: list[tuple[float, float, int]] = []
    adopted: dict[int, Row] = {}
    for row in rows:
        created = row.created or 0.0
        while to_come and to_come[0].since - tolerance_s <= created:
            doubt = to_come.popleft()
            until = min(doubt.until, doubt.since + within_s)
            heapq.heappush(waiting, (until, doubt.since, doubt.key))
        while waiting and waiting[0][0] + tolerance_s < created:
            heapq.heappop(waiting)
        if waiting:
            adopted[heapq.heappop(waiting)[2]] = row
    return adopted


def _rank(row: Row) -> tuple[Any, ...]:
    """Orders the rows of one request by how much they tell."""
    ended = row.status in ("COMPLETED", "FAILED")
    lacks = (row.created is None, row.body is None, row.model is None, not ended, row.url is None)
    body = canonical(row.body) if row.body is not None else ""
    return (*lacks, row.created or 0.0, body, row.model or "", row.status, row.url or "")


def _age(row: Row) -> tuple[float, str]:
    return (row.created or 0.0, row.request_id)


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


def _is_of_model(row: Row, doubt: Doubt) -> bool:
    # The history's own filter takes any model whose name contains the one asked for.
    return row.model is None or row.model == doubt.model


def _is_in_time(row: Row, doubt: Doubt) -> bool:
    if row.created is None:
        return False
    return doubt.since - TOLERANCE_S <= row.created <= doubt.until + TOLERANCE_S


def _is_later(row: Row, doubt: Doubt) -> bool:
    return _is_of_model(row, doubt) and row.created is not None and row.created > doubt.until


def _might_be(row: Row, doubt: Doubt) -> bool:
    """A row that is no proof of this job's request, and no proof that it is another's."""
    if not _is_of_model(row, doubt):
        return False
    if row.body is None:
        return row.created is None or _is_in_time(row, doubt)
    if row.created is not None and row.created < doubt.since - NEARBY_S:
        return False
    # A server may add its defaults to what was sent.
    own = _plain(doubt.body)
    theirs = _plain(row.body)
    return all(name in theirs and could_be(value, theirs[name]) for name, value in own.items())


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
            if len(stamp.strip()) <= DATE_LENGTH:
                continue  # a day is no time to tell requests by
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
