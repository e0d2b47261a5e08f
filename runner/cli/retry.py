"""`runner retry`: decides anew about jobs that ended short of saved."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import job_option, manifest_arguments, place_options
from runner.errors import EXIT_OK, UsageError
from runner.job import RETRYABLE_STATES, State

if TYPE_CHECKING:
    from runner.ledger import Ledger
    from runner.ledger.reading import Selection

# Their first submit was or may have been accepted, and with it paid.
MAY_PAY_TWICE = frozenset({State.IN_DOUBT, State.EXPIRED})


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
    from runner.assembly.session import manifest_names, workplace
    from runner.ledger import Ledger, LedgerLock
    from runner.ledger.reading import Selection, retry

    at = workplace(place, reading=True)
    if not at.ledger.exists():
        raise UsageError(f"there is no ledger at {at.ledger}; name it with --ledger")
    wanted = tuple(State(state) for state in states)
    if not wanted:
        wanted = tuple(RETRYABLE_STATES) if ids else (State.FAILED,)
    selection = Selection(manifest_names(paths), wanted, ids)
    with LedgerLock(at.ledger) as lock:
        lock.acquire(time.time())
        async with await Ledger.open(at.ledger) as ledger:
            risky = await _count_risky(ledger, selection)
            if risky and not yes:
                _ask(risky)
            count = await retry(ledger, selection, time.time())
    jobs = "1 job is" if count == 1 else f"{count:,} jobs are"
    click.echo(
        f"{jobs} pending again; `runner run` sends them" if count else "no such job to retry"
    )
    return EXIT_OK


async def _count_risky(ledger: Ledger, selection: Selection) -> int:
    from runner.ledger.reading import Selection, count_selected

    risky = tuple(state for state in selection.states if state in MAY_PAY_TWICE)
    if not risky:
        return 0
    return await count_selected(ledger, Selection(selection.manifests, risky, selection.ids))


def _ask(count: int) -> None:
    jobs = "1 job has" if count == 1 else f"{count:,} jobs have"
    question = f"{jobs} been paid for, or may have been; sending again may pay twice. Go on?"
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer: say --yes")
    if not click.confirm(question):
        raise UsageError("nothing was changed")
