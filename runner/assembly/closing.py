"""How a run closes: the true counts from the ledger, the exit status, the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.assembly.session import Workplace
from runner.errors import EXIT_KEY_REFUSED, EXIT_OK, EXIT_STOPPED_EARLY, EXIT_UNSAVED, RunnerError
from runner.events import Call, Ending
from runner.job import TERMINAL_STATES, State
from runner.ledger import Counts, Ledger
from runner.ledger.reading import causes, counts
from runner.report.summary import ManifestSummary, Planned, Summary

if TYPE_CHECKING:
    from runner.policy.forecast import Forecast
    from runner.report.tally import Progress

# The summary shows the largest and says how many more there are.
MOST_CAUSES = 100
# A run that sent less of what was estimated was another run.
REACHED = 0.95


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run set out to do: manifests by name and ledger key, when, how it was typed, its estimate."""

    names: Sequence[str]
    keys: tuple[int, ...]
    started: float
    arguments: str
    run_options: str
    estimate: Forecast | None = None


def status_of(states: Mapping[State, int], *, key_refused: bool = False) -> int:
    """The exit status that these states stand for."""
    if key_refused:
        return EXIT_KEY_REFUSED
    if any(count for state, count in states.items() if state not in TERMINAL_STATES):
        return EXIT_STOPPED_EARLY
    unsaved = any(count for state, count in states.items() if state is not State.SAVED)
    return EXIT_UNSAVED if unsaved else EXIT_OK


def manifest_summaries(
    names: Sequence[str], found: Mapping[str, Counts], files: Mapping[str, int]
) -> tuple[ManifestSummary, ...]:
    """The counts of the named manifests."""
    summaries = []
    for name in names:
        entry = found.get(name, Counts(name))
        summaries.append(
            ManifestSummary(name, entry.total, entry.states, entry.spent, files.get(name, 0))
        )
    return tuple(summaries)


async def close_run(
    ledger: Ledger, at: Workplace, begun: Begun, ending: Ending, progress: Progress
) -> Summary:
    """What is to be told at the end of a run."""
    note = await _keep_metadata(ledger, at)
    found = await counts(ledger)
    files = await file_counts(ledger)
    manifests = manifest_summaries(begun.names, found, files)
    summary = Summary(
        manifests=manifests,
        output=str(at.output),
        ledger=str(at.ledger),
        exit_code=EXIT_OK,
        saved_run=progress.saved_run,
        spent_run=progress.spent_run,
        elapsed_s=progress.elapsed_s,
        requests={str(call): count for call, count in (progress.requests or {}).items()},
        causes=tuple(await causes(ledger, begun.keys, MOST_CAUSES)),
        simulated=at.simulated,
        arguments=begun.arguments,
        options=at.options,
        run_options=begun.run_options,
        warnings=(note,) if note else (),
        planned=_planned(begun.estimate, progress),
    )
    status = status_of(summary.states, key_refused=ending.key_refused)
    # A run that was told to stop but found everything done has not stopped early.
    early = status in (EXIT_STOPPED_EARLY, EXIT_KEY_REFUSED)
    return replace(summary, exit_code=status, stopped=ending.stopped if early else None)


async def _keep_metadata(ledger: Ledger, at: Workplace) -> str | None:
    """The rows beside the pictures; whatever becomes of them, the run went as it went."""
    from runner.report.metadata import FILE_NAME, ForeignMetadata, keep_metadata

    try:
        return await keep_metadata(ledger, at.output)
    except ForeignMetadata as error:
        return str(error)
    except (OSError, RunnerError) as error:
        words = (isinstance(error, OSError) and error.strerror) or str(error)
        return f"{at.output / FILE_NAME} was not written: {words}; the next run tries again"


def _planned(estimate: Forecast | None, progress: Progress) -> Planned | None:
    """The estimate, where it was more than a guess and the run came as far as it reached."""
    from runner.policy.forecast import ENOUGH

    if estimate is None or estimate.guesses or estimate.submits < ENOUGH:
        return None
    submits = (progress.requests or {}).get(Call.SUBMIT, 0)
    if submits < REACHED * estimate.submits or estimate.cost is None or estimate.seconds is None:
        return None
    return Planned(estimate.cost, estimate.seconds)


async def file_counts(ledger: Ledger) -> dict[str, int]:
    """How many files each manifest has saved, by its name."""
    from runner.ledger.reading import saved_files

    return await saved_files(ledger)
