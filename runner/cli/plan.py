"""`runner plan`: what a run would do and take, at no cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import click

from runner.assembly.place import Place
from runner.assembly.planning import Plan, PlanLine, make_plan
from runner.cli.options import json_option, manifest_arguments, place_options
from runner.errors import EXIT_OK
from runner.policy.forecast import SPREAD

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
class PlanOptions:
    """What a run would be given on the command line, as far as it changes the numbers."""

    rpm: int | None = None
    concurrency: int | None = None
    budget: float | None = None
    limit: int | None = None


@click.command("plan")
@manifest_arguments(required=True)
@place_options
@click.option("--rpm", type=click.IntRange(min=1), help="Requests per minute of the account.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Most jobs in flight at a time.")
@click.option(
    "--budget", type=click.FloatRange(min=0), metavar="USD", help="Most dollars the run may spend."
)
@click.option("--limit", type=click.IntRange(min=0), help="At most this many new submissions.")
@json_option("The plan as one JSON object.")
def plan_command(manifests: tuple[Path, ...], place: Place, as_json: bool, **options: Any) -> int:
    """Show what a run would do: expand, check and compare with the ledger. Sends nothing.

    Cost, time and room on the disk come from the jobs that this ledger has finished.
    """
    return show_plan(manifests, place, PlanOptions(**options), as_json=as_json)


def show_plan(paths: Sequence[Path], place: Place, options: PlanOptions, *, as_json: bool) -> int:
    """Prints the plan; returns the exit status."""
    plan = anyio.run(_plan, paths, place, options)
    if as_json:
        click.echo(json.dumps(plan_json(plan)))
        return EXIT_OK
    for line in (*_jobs(plan), "", *_numbers(plan)):
        click.echo(line)
    return EXIT_OK


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as `plan --json` writes it; null where nobody can tell."""
    return {
        "groups": [asdict(line) for line in plan.lines],
        **asdict(plan.forecast),
        "in_flight": plan.jobs("collect"),
        "skipped": plan.jobs("skip"),
        "removed": plan.removed,
        "changed": plan.changed,
        "budget": plan.budget,
        "free_bytes": plan.free_bytes,
        "rpm": plan.rpm,
        "concurrency": plan.concurrency,
        "notes": plan.notes,
        "output": str(plan.output),
        "ledger": str(plan.ledger),
        "simulated": plan.simulated,
    }


async def _plan(paths: Sequence[Path], place: Place, options: PlanOptions) -> Plan:
    from runner.assembly.session import load_manifests, workplace

    overrides = {
        "api.rpm": options.rpm,
        "run.concurrency": options.concurrency,
        "run.budget": options.budget,
    }
    at = workplace(place, overrides)
    return await make_plan(load_manifests(paths), at, options.limit)


def _jobs(plan: Plan) -> Iterator[str]:
    """What becomes of the jobs, manifest by manifest."""
    for name in dict.fromkeys(line.manifest for line in plan.lines):
        own = [line for line in plan.lines if line.manifest == name]
        yield f"{name}: {sum(line.jobs for line in own):,} jobs"
        for line in own:
            yield f"  {line.jobs:>9,}  {line.model}: {_words(line)}"
    if plan.removed:
        yield f"  {plan.removed:>9,}  no longer in the manifest: kept in the ledger, not run"
    if plan.changed:
        yield (
            f"  {plan.changed:>9,}  changed under the same id after they were sent: their result "
            "is kept; a new id renders them anew"
        )


def _words(line: PlanLine) -> str:
    state = line.why.replace(" ", "_")
    other = f"ended {line.why}; `runner retry --state {state}` sends them again"
    return WHY.get(line.why, other)


def _numbers(plan: Plan) -> Iterator[str]:
    """What the run would take."""
    from runner.report.words import dollars, roughly, size

    found = plan.forecast
    if not (plan.jobs("submit") or found.requests or plan.jobs("download")):
        yield "nothing to submit"
    else:
        yield f"to submit  {found.submits:,}, in some {found.requests:,} requests"
        yield f"cost       {_money(plan)}"
        yield f"time       {'not known yet' if found.seconds is None else f'about {roughly(found.seconds)}'}"
        if found.size_bytes is not None:
            yield f"disk       about {size(found.size_bytes)}; {size(plan.free_bytes)} are free"
        if plan.budget is not None:
            yield f"budget     {dollars(plan.budget)}{_left(plan)}"
        elif found.left:
            yield f"left       {found.left:,} for a later run: the limit"
        for guess in found.guesses:
            yield f"a guess    {guess}"
    if not plan.fits:
        yield f"warning: the disk of {plan.output} is too small for this; make room first"
    yield from (f"note: {note}" for note in plan.notes)


def _money(plan: Plan) -> str:
    from runner.report.words import dollars

    found = plan.forecast
    if found.cost is None:
        least = f"at least {dollars(found.cost_low)}; the rest is " if found.cost_low else ""
        return f"{least}not known before a first job"
    text = f"about {dollars(found.cost)}"
    low, high = found.cost_low or 0.0, found.cost_high or 0.0
    if high > low * SPREAD:
        text += f" ({dollars(low)} to {dollars(high)}: prices differ from job to job)"
    return text


def _left(plan: Plan) -> str:
    if not plan.forecast.left:
        return ", which is enough"
    return f" allows for these; {plan.forecast.left:,} more are left for a later run"
