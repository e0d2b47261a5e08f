"""What a run would do and take: manifests compared with the ledger, its history asked for numbers."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from runner.assembly.session import Workplace, compare, reading_ledger
from runner.events import Call
from runner.job import State
from runner.ledger import Group, Ledger
from runner.ledger.sampling import ModelSample, model_samples, waiting_by_model
from runner.policy.admission import unproven
from runner.policy.forecast import REQUESTS_PER_JOB, Bounds, Forecast, Known, Load, forecast
from runner.report.tally import Progress

if TYPE_CHECKING:
    from runner.manifest import Manifest

OBSERVED_FACT = "observed"
# Fewer submits than these say little of how many requests a job needs; more than these weigh no more.
FEW_SUBMITS, MANY_SUBMITS = 20, 1000
SHORT_RUN_S = 120.0

_ACTIONS = {
    "new": "submit",
    "retried": "submit",
    "waiting": "submit",
    "interrupted": "collect",
    "to download": "download",
    "in doubt": "ask",
    "expired": "ask",
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """How many jobs of a manifest and model are treated in one way, and why.

    `action` is submit, collect, download, ask (the request history) or skip.
    """

    manifest: str
    model: str
    why: str
    action: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do, and what it would take; sizes in bytes, money in US dollars.

    `removed` are no longer in the manifest, `changed` were under their id after they were sent.
    """

    lines: tuple[PlanLine, ...]
    forecast: Forecast
    removed: int
    changed: int
    notes: tuple[str, ...]
    output: Path
    ledger: Path
    free_bytes: int
    simulated: bool
    rpm: int | None
    concurrency: int | None
    budget: float | None

    def jobs(self, action: str) -> int:
        """How many jobs are treated in this way."""
        return sum(line.jobs for line in self.lines if line.action == action)

    @property
    def fits(self) -> bool:
        """Whether there is room on the disk for what is expected."""
        return (self.forecast.size_bytes or 0) <= self.free_bytes


async def make_plan(manifests: Sequence[Manifest], at: Workplace, limit: int | None) -> Plan:
    """Compares the manifests with the ledger; sends nothing and changes nothing."""
    async with reading_ledger(at) as ledger:
        comparison = await compare(ledger, manifests, at.output, lambda _: None)
        lines = plan_lines(comparison.groups)
        waiting = Counter[tuple[str, State]]()
        for line in lines:
            if line.action == "submit":
                waiting[line.model, State.PENDING] += line.jobs
        for model, state, count in await waiting_by_model(ledger, ()):
            waiting[model, state] += count
        estimate = await _forecast(ledger, at, _loads(waiting), limit)
    return Plan(
        lines=lines,
        forecast=estimate,
        removed=comparison.removed,
        changed=comparison.changed,
        notes=comparison.notes,
        output=at.output,
        ledger=at.ledger,
        free_bytes=await anyio.to_thread.run_sync(_free_bytes, at.output),
        simulated=at.simulated,
        rpm=at.settings.api.rpm,
        concurrency=at.settings.run.concurrency,
        budget=at.settings.run.budget,
    )


async def estimate_run(
    ledger: Ledger, at: Workplace, manifests: Sequence[int], limit: int | None
) -> Forecast:
    """What a run of manifests that the ledger has adopted is going to take."""
    waiting = {
        (model, state): count for model, state, count in await waiting_by_model(ledger, manifests)
    }
    return await _forecast(ledger, at, _loads(waiting), limit)


async def remember_observed(
    ledger: Ledger, progress: Progress, inherited: int, rpm: int | None
) -> None:
    """Keeps what a run has shown of requests per job, and of a rate that nobody had stated."""
    calls = progress.requests or {}
    submits = calls.get(Call.SUBMIT, 0)
    if submits < FEW_SUBMITS or inherited * 10 > submits:
        return
    asked = sum(calls.get(call, 0) for call in (Call.SUBMIT, Call.STATUS, Call.RESULT))
    before = await _observed(ledger)
    weight = min(before.jobs, MANY_SUBMITS)
    each = (before.requests_per_job * weight + asked) / (weight + submits)
    learned = before.rpm if rpm is None else None
    if rpm is None and progress.rate_limited and progress.elapsed_s > SHORT_RUN_S:
        learned = asked * 60.0 / progress.elapsed_s
    kept = _Observed(round(each, 4), before.jobs + submits, learned)
    await ledger.remember(OBSERVED_FACT, json.dumps(asdict(kept)))


def plan_lines(groups: Sequence[Group]) -> tuple[PlanLine, ...]:
    """The groups by what a run would do with them."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for group in groups:
        counted[group.manifest, group.model, _why(group)] += group.count
    return tuple(
        PlanLine(manifest, model, why, _ACTIONS.get(why, "skip"), jobs)
        for (manifest, model, why), jobs in counted.items()
    )


def _why(group: Group) -> str:
    match group.state:
        case None:
            return "new"
        case State.PENDING:
            if group.retried:
                return "retried"
            return "waiting" if group.sent_before else "new"
        case State.SUBMITTING | State.SUBMITTED:
            return "interrupted"
        case State.COMPLETED:
            return "to download"
        case _:
            return group.state.replace("_", " ")


@dataclass(frozen=True, slots=True)
class _Observed:
    """What earlier runs on a ledger have shown: requests per job over so many jobs, and a learned rate."""

    requests_per_job: float = REQUESTS_PER_JOB
    jobs: int = 0
    rpm: float | None = None


async def _observed(ledger: Ledger) -> _Observed:
    text = await ledger.fact(OBSERVED_FACT)
    return _Observed(**json.loads(text)) if text else _Observed()


async def _forecast(
    ledger: Ledger, at: Workplace, loads: Sequence[Load], limit: int | None
) -> Forecast:
    observed, run = await _observed(ledger), at.settings.run
    samples = await model_samples(ledger)
    known = {
        load.model: _known(samples.get(load.model, ModelSample()), run.prices.get(load.model))
        for load in loads
    }
    rpm = at.settings.api.rpm or observed.rpm
    width = run.concurrency or unproven(rpm)
    bounds = Bounds(width, rpm, observed.requests_per_job, run.budget, limit)
    return forecast(loads, known, bounds)


def _known(sample: ModelSample, price: float | None) -> Known:
    return Known(
        sample.finished,
        sample.ended_short,
        sample.costs,
        sample.flights_s,
        sample.services_s,
        sample.fetches_s,
        sample.sizes_bytes,
        price,
    )


def _loads(waiting: Mapping[tuple[str, State], int]) -> list[Load]:
    of_model: defaultdict[str, dict[State, int]] = defaultdict(dict)
    for (model, state), count in waiting.items():
        of_model[model][state] = count
    return [
        Load(
            model,
            submits=counts.get(State.PENDING, 0),
            in_flight=counts.get(State.SUBMITTED, 0),
            downloads=counts.get(State.COMPLETED, 0),
        )
        for model, counts in of_model.items()
    ]


def _free_bytes(folder: Path) -> int:
    folder = folder.resolve()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free
