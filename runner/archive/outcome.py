"""The outcome of a job as the history tells it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner.job import State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.policy.history import Row
from runner.policy.verdict import Meaning, judge_failure


async def conclude(
    ledger: Ledger,
    now: float,
    record: Record,
    row: Row,
    rows: Sequence[Row],
    why: str = "recovered through the request history",
) -> StepResult:
    """Moves a job to what became of its request; `rows` are all that the history has of it."""
    if row.status == "FAILED":
        reason = row.error or "the request history reports FAILED without a reason"
        blocked = judge_failure(reason) is Meaning.BLOCKED
        after = State.BLOCKED if blocked else State.FAILED
        event = Event(now, detail=reason, request_id=row.request_id)
        await ledger.end(record, after, event)
        return StepResult(after, reason=reason)
    urls = list(dict.fromkeys(each.url for each in rows if each.url))
    body: dict[str, Any] = {
        "status": "COMPLETED",
        "request_id": row.request_id,
        "output": urls[0] if len(urls) == 1 else urls,
        "metrics": {"cost": row.cost},
        "from": "request history",
    }
    event = Event(now, detail=why, request_id=row.request_id)
    await ledger.complete(record, json.dumps(body), event, row.cost)
    return StepResult(State.COMPLETED, cost=row.cost)
