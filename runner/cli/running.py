"""A run from the terminal: lock, signals, display, summary."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import click

from runner import __version__
from runner.assembly.closing import Begun
from runner.assembly.control import Control
from runner.assembly.place import Place
from runner.assembly.running import Asked, Audience, Watcher, run_to_end
from runner.assembly.session import Progress, Workplace, load_manifests, shell, workplace
from runner.cli.logfile import LogFile, logged
from runner.cli.watching import watcher
from runner.errors import EXIT_STOPPED_EARLY, RunnerError
from runner.ledger import LedgerLock
from runner.policy.curfew import Deadline
from runner.report.summary import Summary, render_summary, summary_json
from runner.report.tally import Heading, Tally
from runner.report.words import printable

# A manifest that is read in a moment needs no word about it.
SLOW_PLANNING_S = 3.0
GARBAGE_THRESHOLD = 20_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked of this run on the command line."""

    concurrency: int | None = None
    rpm: int | None = None
    budget: float | None = None
    wait_for_credits: bool = False
    limit: int | None = None
    on_doubt: str | None = None
    on_expired: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    deadline: Deadline | None = None
    log_file: Path | None = None

    def overrides(self) -> dict[str, Any]:
        """The settings that the command line beats."""
        return {
            "run.concurrency": self.concurrency,
            "run.on_doubt": self.on_doubt,
            "run.on_expired": self.on_expired,
            "run.budget": self.budget,
            "api.rpm": self.rpm,
        }

    def typed(self) -> str:
        """The options that a resumed run should be given again."""
        named = {
            "--concurrency": self.concurrency,
            "--rpm": self.rpm,
            "--budget": self.budget,
            "--on-doubt": self.on_doubt,
            "--on-expired": self.on_expired,
        }
        typed = [f"{name} {value}" for name, value in named.items() if value is not None]
        return " ".join(typed + ["--wait-for-credits"] * self.wait_for_credits)


def run_manifests(paths: Sequence[Path], place: Place, options: RunOptions) -> int:
    """Runs the manifests; returns the exit status."""
    at = workplace(place, options.overrides())
    manifests = load_manifests(paths)
    asked = Asked(
        options.limit, options.wait_for_credits, shell(paths), options.typed(), options.deadline
    )
    lock = LedgerLock(at.ledger)
    lock.acquire(time.time())
    place_of_work = {"ledger": str(at.ledger), "output": str(at.output), "simulated": at.simulated}
    begun = {"version": __version__, "manifests": [m.name for m in manifests], **place_of_work}
    # What a job leaves behind is counted, not cyclic: looking for cycles so often took a sixth of the time.
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)
    with lock, logged(options.log_file, begun) as log:
        summary = anyio.run(_run, manifests, at, asked, options, log)
        if log is not None and summary is not None:
            log.write("ended", summary_json(summary))
    if summary is None:
        click.echo("stopped before anything was sent; run again to go on", err=True)
        return EXIT_STOPPED_EARLY
    return exit_status(summary, as_json=options.as_json)


def exit_status(summary: Summary, *, as_json: bool) -> int:
    """Prints the summary; returns its exit status."""
    for warning in summary.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    if as_json:
        click.echo(json.dumps(summary_json(summary), ensure_ascii=False))
        return summary.exit_code
    width = shutil.get_terminal_size().columns
    colour = sys.stdout.isatty()
    click.echo(render_summary(summary, width, colour=colour), nl=False, color=colour)
    return summary.exit_code


async def _run(
    manifests: Any, at: Workplace, asked: Asked, options: RunOptions, log: LogFile | None
) -> Summary | None:
    def display(tally: Tally, begun: Begun) -> Watcher:
        heading = _heading(begun, at, options.deadline)
        shown = watcher(tally, heading, options.quiet, options.verbose)
        return shown if log is None else log.beside(shown)

    control = Control()
    audience = Audience(display, _planning_progress(options))
    result, failure = None, None
    async with anyio.create_task_group() as group:
        await group.start(_watch_signals, control)
        try:
            result = await run_to_end(manifests, at, asked, control, audience)
        except RunnerError as error:
            # Out of the group it would come as a group, which nobody words.
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _watch_signals(control: Control, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
    """The first signal drains, the second stops; before the engine runs, the first one stops."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        count = 0
        async for number in received:
            count += 1
            name = signal.Signals(number).name
            if count == 1 and not control.is_draining():
                control.drain(name)
            else:
                control.stop(f"a second {name}" if count > 1 else name)


def _heading(begun: Begun, at: Workplace, deadline: Deadline | None) -> Heading:
    command = " ".join(filter(None, ("runner status", begun.arguments, at.options)))
    until = "" if deadline is None else deadline.words
    return Heading(tuple(begun.names), at.simulated, at.settings.run.concurrency, command, until)


def _planning_progress(options: RunOptions) -> Progress:
    told_at = time.monotonic()

    def tell(count: int) -> None:
        nonlocal told_at
        is_due = time.monotonic() - told_at > SLOW_PLANNING_S
        if is_due and not options.quiet and sys.stderr.isatty():
            told_at = time.monotonic()
            click.echo(f"reading the manifest: {count:,} jobs", err=True)

    return tell
