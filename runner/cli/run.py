"""`runner run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.assembly.place import Place
from runner.cli.options import json_option, manifest_arguments, place_options

if TYPE_CHECKING:
    from runner.policy.curfew import Deadline


@click.command("run")
@manifest_arguments(required=True)
@place_options
@click.option("--concurrency", type=click.IntRange(min=1), help="Most jobs in flight at a time.")
@click.option("--rpm", type=click.IntRange(min=1), help="Requests per minute of the account.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Most dollars this run may spend, all that is in flight or in doubt counted.",
)
@click.option(
    "--wait-for-credits", is_flag=True, help="Wait while the balance is empty instead of stopping."
)
@click.option(
    "--until",
    metavar="HH:MM",
    help="Be done by this time here, tomorrow's if it has passed: the last submits leave early "
    "enough to be collected.",
)
@click.option("--max-time", metavar="TIME", help="Take at most this long, like 8h or 90m.")
@click.option("--limit", type=click.IntRange(min=0), help="At most this many new submissions.")
@click.option(
    "--on-doubt",
    type=click.Choice(["reconcile", "hold", "resubmit"]),
    help="What becomes of a submit whose answer never came: ask the history (the default), leave it, "
    "or send it again, which may pay twice.",
)
@click.option(
    "--on-expired",
    type=click.Choice(["recover", "hold", "resubmit"]),
    help="What becomes of a job whose hour has passed: ask the history (the default), leave it, or pay "
    "again where it cannot be recovered.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done, as `plan` does.")
@click.option(
    "--log-file",
    type=click.Path(path_type=Path),
    help="Also write every event as a line of JSON to this file, which is rotated at 10 MB.",
)
@json_option("The summary as one JSON object on stdout; the rest goes to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and the summary.")
@click.option("-v", "--verbose", is_flag=True, help="A line for every request and every move.")
def run_command(manifests: tuple[Path, ...], place: Place, dry_run: bool, **options: Any) -> int:
    """Do whatever of the manifests is not done yet. Running it again is resuming.

    \b
    Exit status:
      0   every job is saved
      1   all is settled, but some jobs ended failed, blocked, invalid, expired or in doubt
      2   usage, manifest or config error; nothing was sent
      3   stopped early with work left; run again to go on
      4   the API refused the key
      75  another run holds this ledger
    """
    deadline = _deadline(options.pop("until"), options.pop("max_time"))
    if dry_run:
        from runner.cli.plan import PlanOptions, show_plan

        numbers = {name: options[name] for name in ("rpm", "concurrency", "budget", "limit")}
        return show_plan(manifests, place, PlanOptions(**numbers), as_json=options["as_json"])
    from runner.cli.running import RunOptions, run_manifests

    return run_manifests(manifests, place, RunOptions(**options, deadline=deadline))


def _deadline(until: str | None, max_time: str | None) -> Deadline | None:
    """When the run has to be over: the earlier of the two, if any."""
    if until is None and max_time is None:
        return None
    from runner.config import parse_duration
    from runner.policy.curfew import Deadline, next_time_of_day

    now, found, option = time.time(), [], ""
    try:
        if until is not None:
            option = "--until"
            found.append(Deadline(next_time_of_day(until, now), f"until {until}"))
        if max_time is not None:
            option = "--max-time"
            found.append(Deadline(now + parse_duration(max_time), f"for {max_time} at most"))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    return min(found, key=lambda deadline: deadline.at)
