"""`runner plan`: what a run would do, at no cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import json_option, manifest_arguments, place_options
from runner.errors import EXIT_OK
from runner.job import State
from runner.ledger import Comparison, Group, Ledger

# A submit, and at best one poll and one result for each job.
REQUESTS_PER_JOB = 3
USUAL_IN_FLIGHT = 64

WHY = {
    "new": "new, will be submitted",
    "retried": "put back by `runner retry`, will be submitted again",
    "waiting": "refused, unsent or corrected, will be submitted again",
    "interrupted": "in flight when the last run ended, will be collected",
    "to download": "finished, files will be fetched",
    "saved": "saved already, nothing to do",
    "in doubt": "may have been accepted, not sent again",
}


@dataclass(frozen=True, slots=True)
class Line:
    """How many jobs of a manifest and model are treated in one way, and why."""

    manifest: str
    model: str
    why: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take; None where there is nothing yet to tell it from."""

    submits: int
    requests: int
    cost: float | None
    seconds: float | None


@click.command("plan")
@manifest_arguments(required=True)
@place_options
@click.option("--rpm", type=click.IntRange(min=1), help="Requests per minute of the account.")
@json_option("The plan as one JSON object.")
def plan_command(manifests: tuple[Path, ...], place: Place, rpm: int | None, as_json: bool) -> int:
    """Show what a run would do: expand, check and compare with the ledger. Sends nothing."""
    return show_plan(manifests, place, as_json=as_json, rpm=rpm)


def show_plan(paths: Sequence[Path], place: Place, *, as_json: bool, rpm: int | None) -> int:
    """Prints the plan; returns the exit status."""
    return anyio.run(_show, paths, place, as_json, rpm)


async def _show(paths: Sequence[Path], place: Place, as_json: bool, rpm: int | None) -> int:
    from runner.assembly.session import compare, load_manifests, reading_ledger, workplace

    at = workplace(place, {"api.rpm": rpm})
    manifests = load_manifests(paths)
    async with reading_ledger(at) as ledger:
        comparison = await compare(ledger, manifests, at.output, lambda _: None)
        estimate = await _estimate(
            ledger, comparison, at.settings.api.rpm, at.settings.run.concurrency or USUAL_IN_FLIGHT
        )
    lines = plan_lines(comparison.groups)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "groups": [asdict(line) for line in lines],
                    **asdict(estimate),
                    "removed": comparison.removed,
                    "changed": comparison.changed,
                    "notes": comparison.notes,
                    "output": str(at.output),
                    "ledger": str(at.ledger),
                }
            )
        )
        return EXIT_OK
    for line in _text(lines, comparison, estimate):
        click.echo(line)
    return EXIT_OK


def plan_lines(groups: Sequence[Group]) -> list[Line]:
    """The groups by what a run would do with them."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for group in groups:
        counted[group.manifest, group.model, _why(group)] += group.count
    return [Line(*key, jobs) for key, jobs in counted.items()]


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


async def _estimate(
    ledger: Ledger, comparison: Comparison, rpm: int | None, width: int
) -> Estimate:
    from runner.ledger.reading import model_history

    known = await model_history(ledger)
    submits: Counter[str] = Counter()
    for line in plan_lines(comparison.groups):
        if line.why in ("new", "retried", "waiting"):
            submits[line.model] += line.jobs
    jobs = submits.total()
    costs = [known[m].cost if m in known else None for m in submits]
    cost = (
        None
        if None in costs
        else sum((known[model].cost or 0.0) * count for model, count in submits.items())
    )
    times = [jobs * REQUESTS_PER_JOB * 60.0 / rpm] if rpm else []
    latencies = [known[m].latency_s if m in known else None for m in submits]
    if None not in latencies:
        worked_s = sum((known[m].latency_s or 0.0) * count for m, count in submits.items())
        times.append(worked_s / min(width, max(jobs, 1)))
    return Estimate(jobs, jobs * REQUESTS_PER_JOB, cost, max(times, default=None))


def _text(lines: Sequence[Line], comparison: Comparison, estimate: Estimate) -> list[str]:
    from runner.report.words import dollars, roughly

    shown: list[str] = []
    for name in dict.fromkeys(line.manifest for line in lines):
        own = [line for line in lines if line.manifest == name]
        shown.append(f"{name}: {sum(line.jobs for line in own):,} jobs")
        for line in own:
            words = WHY.get(
                line.why, f"ended {line.why}; `runner retry --state {line.why}` sends them again"
            )
            shown.append(f"  {line.jobs:>9,}  {line.model}: {words}")
    if comparison.removed:
        shown.append(
            f"  {comparison.removed:>9,}  no longer in the manifest: kept in the ledger, not run"
        )
    if comparison.changed:
        shown.append(
            f"  {comparison.changed:>9,}  changed under the same id after they were sent: their result "
            "is kept; a new id renders them anew"
        )
    shown.append("")
    if not estimate.submits:
        shown.append("nothing to submit")
    else:
        money = (
            "not known before a first job"
            if estimate.cost is None
            else f"about {dollars(estimate.cost)}"
        )
        time = "not known yet" if estimate.seconds is None else f"about {roughly(estimate.seconds)}"
        shown.append(f"to submit  {estimate.submits:,}, in some {estimate.requests:,} requests")
        shown.append(f"cost       {money}")
        shown.append(f"time       {time}")
    shown += [f"note: {note}" for note in comparison.notes]
    return shown
