"""What a gallery shows, read from the ledger: totals, causes of failure, and its jobs in chunks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from runner.job import RETRYABLE_STATES, State
from runner.ledger import Ledger, Listed
from runner.ledger.reading import counts, saved_files
from runner.ledger.showing import Cursor, cursor, manifest_places, newest_keys, pages
from runner.report.gallery.rows import encode, row_of, script
from runner.report.gallery.thumbnails import Thumbnails
from runner.report.summary import NEEDS, states_json

# A page of more jobs takes a browser's memory and its reader's patience.
MOST_JOBS = 50_000
CHUNK_JOBS = 1_000
# The first pictures are there before the rest has come.
FIRST_CHUNK_JOBS = 200


@dataclass(frozen=True, slots=True)
class Scope:
    """Which jobs a gallery shows and where; `manifests` empty: all that have results in `output`.

    `arguments` and `options` are what the commands on the page need, ready for a shell.
    """

    output: Path
    manifests: tuple[str, ...] = ()
    arguments: str = ""
    options: str = ""
    simulated: bool = False
    most: int = MOST_JOBS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A gallery at one moment: its head, its data files by name, and how far the ledger was read.

    `unmade`: pictures whose thumbnails were left for another time.
    """

    head: dict[str, Any]
    chunks: dict[str, bytes] = field(repr=False)
    cursor: Cursor
    unmade: int = 0

    @property
    def total(self) -> int:
        """All jobs of the gallery's manifests, shown or not."""
        return sum(self.head["totals"]["states"].values())


async def take_snapshot(
    ledger: Ledger,
    scope: Scope,
    thumbnails: Thumbnails,
    enough: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Snapshot:
    """Reads the gallery's jobs and makes the thumbnails that they lack, until it is `enough`.

    `progress` is told how many jobs are done, and of how many.
    """
    names = await shown_manifests(ledger, scope)
    # Before the jobs are read: what happens meanwhile is seen twice rather than never.
    seen = await cursor(ledger)
    keys = await newest_keys(ledger, names, scope.most)
    chunks: dict[str, bytes] = {}
    rows: list[str] = []
    unmade = done = 0
    async for page in pages(ledger, keys):
        encoded, left = await anyio.to_thread.run_sync(
            encode_jobs, page, scope.output, thumbnails, enough
        )
        rows += encoded
        unmade += left
        done += len(page)
        progress(done, len(keys))
        while rows:
            size = CHUNK_JOBS if chunks else FIRST_CHUNK_JOBS
            if len(rows) < size and done < len(keys):
                break
            data = script(rows[:size])
            chunks[f"{hashlib.sha256(data).hexdigest()[:16]}.js"] = data
            del rows[:size]
    head = {
        "manifests": names,
        "simulated": scope.simulated,
        "totals": await totals(ledger, names),
        "shown": done,
        "chunks": list(chunks),
        "needs": _needs(scope),
        "run": _command("run", scope),
    }
    return Snapshot(head, chunks, seen, unmade)


def encode_jobs(
    jobs: Sequence[Listed],
    output: Path,
    thumbnails: Thumbnails,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[list[str], int]:
    """The rows of some jobs as JSON, their thumbnails made; and how many of those were left out."""
    files = [file for job in jobs for file in job.files]
    left = thumbnails.make(files, enough) if thumbnails.missing(files) else 0
    return [encode(row_of(job, output, thumbnails)) for job in jobs], left


async def shown_manifests(ledger: Ledger, scope: Scope) -> tuple[str, ...]:
    """The manifests that were asked for, else those whose results are in the output folder."""
    if scope.manifests:
        return scope.manifests
    folder = str(await anyio.to_thread.run_sync(scope.output.resolve))
    places = await manifest_places(ledger)
    here = tuple(place.name for place in places if place.output_directory == folder)
    # A folder that was moved is still the folder.
    return here or tuple(place.name for place in places)


async def totals(ledger: Ledger, manifests: Sequence[str]) -> dict[str, Any]:
    """Counts by state, money spent and files saved, over all jobs of the manifests."""
    states: Counter[State] = Counter()
    found, files, spent = await counts(ledger), await saved_files(ledger), 0.0
    for name in manifests:
        if name in found:
            states.update(found[name].states)
            spent += found[name].spent
    return {
        "states": states_json(states),
        "spent": round(spent, 6),
        "files": sum(files.get(name, 0) for name in manifests),
    }


def _needs(scope: Scope) -> dict[str, dict[str, str]]:
    """For each state short of saved: what it means, and the command that tries again."""
    return {
        state.value: {
            "meaning": NEEDS[state],
            "command": _command("run", scope)
            if state is State.INVALID
            else _command("retry", scope, f"--state {state.value}"),
        }
        for state in State
        if state in RETRYABLE_STATES
    }


def _command(verb: str, scope: Scope, option: str = "") -> str:
    return " ".join(filter(None, ("runner", verb, scope.arguments, scope.options, option)))
