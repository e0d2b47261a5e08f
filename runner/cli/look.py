"""`runner status` and `runner jobs`: what the ledger says."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import job_option, json_option, manifest_arguments, place_options
from runner.errors import EXIT_OK, UsageError
from runner.job import State

if TYPE_CHECKING:
    from runner.assembly.session import Workplace
    from runner.ledger import Ledger, Listed
    from runner.ledger.reading import ModelMoney
    from runner.report.summary import ManifestSummary

PROMPT_WIDTH = 60


@click.command("status")
@manifest_arguments(required=False)
@place_options
@json_option("The counts as one JSON object.")
def status_command(manifests: tuple[Path, ...], place: Place, as_json: bool) -> int:
    """Count jobs by state, money spent and the next retention deadline."""
    return anyio.run(_status, manifests, place, as_json)


@click.command("jobs")
@manifest_arguments(required=False)
@place_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    metavar="STATE",
    help="Only jobs in this state; may be given several times.",
)
@job_option("One job with its whole history.")
@json_option("JSON Lines, one job a line.")
def jobs_command(
    manifests: tuple[Path, ...],
    place: Place,
    states: tuple[str, ...],
    ids: tuple[str, ...],
    as_json: bool,
) -> int:
    """List jobs, one a line; with --job everything that happened to one."""
    return anyio.run(_jobs, manifests, place, states, ids, as_json)


async def _status(paths: tuple[Path, ...], place: Place, as_json: bool) -> int:
    from runner.assembly.closing import manifest_summaries, status_of
    from runner.assembly.session import check_known, manifest_names, reading_ledger, workplace
    from runner.ledger.reading import counts, money_by_model, next_deadline, saved_files
    from runner.report.summary import manifest_json, states_json

    at = workplace(place, reading=True)
    async with reading_ledger(at) as ledger:
        found = await counts(ledger)
        files = await saved_files(ledger)
        deadline = await next_deadline(ledger)
        money = await money_by_model(ledger, manifest_names(paths))
    check_known(paths, found, at.ledger)
    names = manifest_names(paths) or tuple(found)
    summaries = manifest_summaries(names, found, files)
    states: Counter[State] = Counter()
    for summary in summaries:
        states.update(summary.states)
    value = {
        "manifests": [manifest_json(summary) for summary in summaries],
        "total": sum(summary.total for summary in summaries),
        "states": states_json(states),
        "spent": round(sum(summary.spent for summary in summaries), 6),
        "models": [
            {"model": each.model, "jobs": each.jobs, "spent": round(each.spent, 6)}
            for each in money
        ],
        "exit": status_of(states),
        "next_deadline": _iso(deadline),
        "output": str(at.output),
        "ledger": str(at.ledger),
        "simulated": at.simulated,
    }
    if as_json:
        click.echo(json.dumps(value))
    else:
        for line in _status_text(at, summaries, money, deadline):
            click.echo(line)
    return EXIT_OK


def _status_text(
    at: Workplace,
    summaries: tuple[ManifestSummary, ...],
    money: list[ModelMoney],
    deadline: float | None,
) -> list[str]:
    from runner.report.summary import states_json
    from runner.report.words import dollars, duration, printable

    badge = "SIMULATED  " if at.simulated else ""
    if not at.ledger.exists():
        return [f"no ledger at {at.ledger} yet; `runner run MANIFEST` makes one"]
    lines = []
    for summary in summaries:
        lines.append(f"{badge}{printable(summary.name)}: {summary.total:,} jobs")
        for state, count in states_json(summary.states).items():
            lines.append(f"  {count:>9,}  {state.replace('_', ' ')}")
        lines.append(
            f"  {dollars(summary.spent):>9}  spent; {summary.files:,} files in {at.output}/"
        )
    if not summaries:
        lines.append(f"{badge}the ledger {at.ledger} is empty")
    if len(money) > 1:
        lines.append("by model")
        lines += [f"  {dollars(each.spent):>9}  {each.model}, {each.jobs:,} jobs" for each in money]
    if deadline is not None:
        left_s = deadline - time.time()
        when = f"in {duration(left_s)}" if left_s > 0 else f"{duration(-left_s)} ago"
        lines.append(
            f"in flight: the API forgets the first of them {when}; `runner run` collects them"
        )
    return lines


async def _jobs(
    paths: tuple[Path, ...],
    place: Place,
    states: tuple[str, ...],
    ids: tuple[str, ...],
    as_json: bool,
) -> int:
    from runner.assembly.session import check_known, manifest_names, reading_ledger, workplace
    from runner.ledger.reading import Selection, counts, listed

    at = workplace(place, reading=True)
    selection = Selection(manifest_names(paths), tuple(State(state) for state in states), ids)
    seen: set[str] = set()
    async with reading_ledger(at) as ledger:
        if paths:
            check_known(paths, await counts(ledger), at.ledger)
        async for job in listed(ledger, selection):
            if ids:
                seen.add(job.id)
            if as_json:
                click.echo(json.dumps(job_json(job), ensure_ascii=False))
            elif ids:
                for line in await _story(ledger, job):
                    click.echo(line)
            else:
                click.echo(_job_line(job))
    if missing := [job_id for job_id in ids if job_id not in seen]:
        names = ", ".join(missing)
        raise UsageError(f"no job {names} in the ledger {at.ledger}; `runner jobs` lists them all")
    return EXIT_OK


def job_json(job: Listed) -> dict[str, Any]:
    """A job as `jobs --json` writes it."""
    return {
        "id": job.id,
        "manifest": job.manifest,
        "model": job.model,
        "state": job.state.value,
        "params": job.params,
        "tags": list(job.tags),
        "index": job.index,
        "repeat": job.repeat,
        "request_id": job.request_id,
        "meta": job.meta,
        "attempts": job.posts,
        "submitted_at": _iso(job.submitted_at),
        "completed_at": _iso(job.completed_at),
        "cost": job.cost,
        "error": job.error,
        "source": job.source,
        "files": [
            {
                "path": file.path,
                "url": file.url,
                "bytes": file.size_bytes,
                "sha256": file.sha256,
                "content_type": file.content_type,
            }
            for file in job.files
        ],
    }


def _job_line(job: Listed) -> str:
    from runner.report.words import printable

    text = job.error or str(job.params.get("prompt") or job.source)
    if job.state is State.SAVED:
        text = ", ".join(str(file.path) for file in job.files)
    short = printable(text)
    if job.state is not State.SAVED and len(short) > PROMPT_WIDTH:
        short = short[: PROMPT_WIDTH - 1] + "…"
    return f"{job.id:<20} {job.state.replace('_', ' '):<10} {job.model:<16} {short}".rstrip()


async def _story(ledger: Ledger, job: Listed) -> list[str]:
    """Everything that happened to a job, in order."""
    from runner.ledger.reading import attempts
    from runner.report.words import dollars, printable

    lines = [
        f"{job.id}  {job.state.replace('_', ' ')}",
        f"  manifest    {job.manifest} ({job.source})",
        f"  model       {job.model}",
        f"  parameters  {printable(json.dumps(job.params, ensure_ascii=False))}",
    ]
    if job.request_id:
        lines.append(f"  request id  {job.request_id}")
    if job.cost is not None:
        lines.append(f"  cost        {dollars(job.cost)}")
    if job.error:
        lines.append(f"  reason      {printable(job.error)}")
    lines += [f"  file        {file.path} ({file.size_bytes:,} bytes)" for file in job.files]
    lines.append("  history")
    for attempt in await attempts(ledger, job.key):
        stamp = datetime.fromtimestamp(attempt.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        status = f" HTTP {attempt.status}" if attempt.status is not None else ""
        detail = f" {printable(attempt.detail)}" if attempt.detail else ""
        request = f" request {attempt.request_id}" if attempt.request_id else ""
        lines.append(f"    {stamp}  {attempt.action.replace('_', ' ')}{status}{request}{detail}")
    return lines


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return (
        datetime.fromtimestamp(moment, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
