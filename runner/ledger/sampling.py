"""What a forecast reads from the ledger: recent jobs as a bounded sample, and what waits to be done."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.job import State
from runner.ledger import planning_queries
from runner.ledger.ledger import Ledger

# So many requests are looked back on, and of each model so many jobs make its sample.
LOOK_BACK = 10_000
SAMPLE = 200
ENDED_SHORT = (State.FAILED, State.BLOCKED, State.EXPIRED)


@dataclass(slots=True)
class ModelSample:
    """Recent jobs of a model: dollars, seconds, bytes; what was not told is left out."""

    finished: int = 0
    ended_short: int = 0
    costs: list[float] = field(default_factory=list)
    flights_s: list[float] = field(default_factory=list)
    services_s: list[float] = field(default_factory=list)
    fetches_s: list[float] = field(default_factory=list)
    sizes_bytes: list[float] = field(default_factory=list)


async def model_samples(ledger: Ledger) -> dict[str, ModelSample]:
    """The most recent jobs of each model, however many the ledger holds."""

    def work(database: sqlite3.Connection) -> dict[str, ModelSample]:
        samples: dict[str, ModelSample] = {}
        rows = database.execute(planning_queries.RECENT_JOBS, {"limit": LOOK_BACK})
        for key, model, state, posts, cost, submitted_at, completed_at in rows:
            sample = samples.setdefault(model, ModelSample())
            if sample.finished >= SAMPLE:
                continue
            if completed_at is None:
                sample.ended_short += state in ENDED_SHORT
                continue
            sample.finished += 1
            sample.flights_s.append(max(0.0, completed_at - submitted_at))
            # A job that was paid for before has two costs in one.
            if cost is not None and posts == 1:
                sample.costs.append(cost)
            _add_details(database, key, sample)
        return samples

    return await ledger.call(work)


async def waiting_by_model(
    ledger: Ledger, manifests: Sequence[int]
) -> list[tuple[str, State, int]]:
    """How many jobs of each model wait to be sent, are in flight or are to be fetched."""
    keys = ", ".join(str(int(key)) for key in manifests) or "NULL"
    query = planning_queries.WAITING_BY_MODEL.format(manifests=keys)
    rows = await ledger.call(lambda database: database.execute(query).fetchall())
    return [(model, State(state), count) for model, state, count in rows]


def _add_details(database: sqlite3.Connection, key: int, sample: ModelSample) -> None:
    values = database.execute(planning_queries.FINISHED_DETAILS, {"job": key}).fetchone()
    service_s, fetch_s, size_bytes = values
    if isinstance(service_s, int | float) and service_s > 0:
        sample.services_s.append(float(service_s))
    if fetch_s is not None and fetch_s >= 0:
        sample.fetches_s.append(fetch_s)
    if size_bytes is not None:
        sample.sizes_bytes.append(size_bytes)
