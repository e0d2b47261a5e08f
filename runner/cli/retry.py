"""`runner retry`: decides anew about jobs that ended short of saved."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import job_option, manifest_arguments, place_options
from runner.errors import EXIT_OK, UsageError
from runner.job import RETRYABLE_STATES, State


@click.command("retry")
@manifest_arguments(required=False)
@place_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(sorted(state.value for state in RETRYABLE_STATES)),
    help="Jobs in this state; may be given several times.  [default: failed]",
)
@job_option("This job; may be given several times.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask where it may pay twice.")
def retry_command(
    manifests: tuple[Path, ...],
    place: Place,
    states: tuple[str, ...],
    ids: tuple[str, ...],
    yes: bool,
) -> int:
    """Put jobs that ended short of saved back to pending; the next run sends them again."""
    return anyio.run(_retry, manifests, place, states, ids, yes)


async def _retry(
    paths: tuple[Path, ...],
    place: Place,
    states: tuple[str, ...],
    ids: tuple[str, ...],
    yes: bool,
) -> int:
    from runner.assembly.retrying import retry_jobs
    from runner.assembly.session import manifest_names, workplace
    from runner.ledger.reading import Selection

    at = workplace(place, reading=True)
    chosen = Selection(manifest_names(paths), tuple(State(state) for state in states), ids)
    count = await retry_jobs(at, chosen, _go_on if yes else _ask)
    jobs = "1 job is" if count == 1 else f"{count:,} jobs are"
    click.echo(
        f"{jobs} pending again; `runner run` sends them" if count else "no such job to retry"
    )
    return EXIT_OK


def _go_on(count: int) -> None:
    """Somebody has said --yes."""


def _ask(count: int) -> None:
    from runner.assembly.retrying import twice_words

    question = f"{twice_words(count)}. Go on?"
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer: say --yes")
    if not click.confirm(question):
        raise UsageError("nothing was changed")
