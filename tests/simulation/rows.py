"""What the ledger tells of its jobs, read behind its back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.ledger.records import compact

from .server import EPOCH

if TYPE_CHECKING:
    from .night import Night


@dataclass(slots=True)
class Row:
    """A job as the ledger has it, with all that ever happened to it."""

    id: str
    model: str
    body: str
    state: str
    request_id: str | None
    cost: float | None
    requeues: int
    server_at: float | None
    server_until: float | None
    # In true time.
    attempts: list[tuple[float, str, str, str | None]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        """Every request this job ever was."""
        found = {request_id for *_, request_id in self.attempts if request_id}
        return found | ({self.request_id} if self.request_id else set())

    def times(self, text: str) -> int:
        """How often something happened to it; `text` begins the action or its detail."""
        return sum(text in (action, detail[: len(text)]) for _, action, detail, _ in self.attempts)


def rows_of(night: Night) -> list[Row]:
    """All jobs, and what ever happened to them."""
    query = """
        SELECT job_key, id, model, params, state, request_id, cost, requeues, server_at, server_until
        FROM jobs ORDER BY job_key"""
    rows = {
        key: Row(id, model, compact(json.loads(params)), *rest)
        for key, id, model, params, *rest in night.disk.execute(query)  # noqa: A001
    }
    query = """
        SELECT attempt_key, job_key, at, action, coalesce(detail, ''), request_id
        FROM attempts ORDER BY attempt_key"""
    for number, key, at, *attempt in night.disk.execute(query):
        rows[key].attempts.append((_true_time(night, number, at), *attempt))
    for key, path in night.disk.execute("SELECT job_key, path FROM files ORDER BY job_key, n"):
        rows[key].files.append(path)
    return list(rows.values())


def _true_time(night: Night, number: int, at: float) -> float:
    """Seconds since the night began, of a time by the clock of the life that wrote it down."""
    lives = (
        each for each in night.lived if each.last_attempt is None or number <= each.last_attempt
    )
    return at - EPOCH - next(lives).ahead_s


def stories(night: Night) -> Iterator[str]:
    """What the ledger tells of each job, for whoever looks at one night."""
    for row in rows_of(night):
        yield f"{row.id} {row.state} {row.request_id} {row.body}"
        for at, action, detail, request_id in row.attempts:
            yield f"    {at:12.3f} {action} {request_id or ''} {detail}"
