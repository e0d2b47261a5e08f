"""What commands work with: settings, manifests and a ledger that fit together."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from runner.assembly.place import SANDBOX_LEDGER, SANDBOX_OUTPUT, Place
from runner.config import Settings, load_settings
from runner.errors import InputError, Problem, UsageError
from runner.ledger import Comparison, Ledger, Planning, Source, find_manifest

if TYPE_CHECKING:
    from runner.manifest import Manifest

STAGE_BATCH = 5000
STAGE_MOMENT_S = 0.5
SIMULATED_FACT = "simulated"
SANDBOX_KEY = "SG_5a5db0c5a5db0c51"


@dataclass(frozen=True, slots=True)
class Workplace:
    """The settings in force, and how they were named on the command line."""

    settings: Settings
    ledger: Path
    output: Path
    simulated: bool
    options: str
    config_given: bool


def workplace(
    place: Place, overrides: dict[str, Any] | None = None, *, reading: bool = False
) -> Workplace:
    """The settings for a command. With --sandbox the real ledger and output are left alone.

    `reading`: where there is no ledger but a sandbox's, that one is meant.
    """
    given = {"ledger": place.ledger, "output": place.output, **(overrides or {})}
    settings = load_settings(place.config, os.environ, given)
    simulated = place.sandbox
    if reading and not place.sandbox and place.ledger is None and not settings.ledger.exists():
        simulated = _beside(settings.ledger, SANDBOX_LEDGER).exists()
    ledger, output = settings.ledger, settings.output.directory
    if simulated:
        ledger = place.ledger or _beside(settings.ledger, SANDBOX_LEDGER)
        output = place.output or _beside(output, SANDBOX_OUTPUT)
    return Workplace(
        settings, ledger, output, simulated, _named_options(place), place.config is not None
    )


def load_manifests(sources: Sequence[Path | Mapping[str, Any]]) -> list[Manifest]:
    """Reads the headers of manifests, files or mappings. Raises InputError with the faults of all."""
    from runner.manifest import given, load

    problems: list[Problem] = []
    found: dict[str, Manifest] = {}
    paths = dict.fromkeys(source for source in sources if isinstance(source, Path))
    wanted: list[Path | Mapping[str, Any]] = [*paths]
    wanted += [source for source in sources if not isinstance(source, Path)]
    for source in wanted:
        try:
            manifest = load(source) if isinstance(source, Path) else given(source)
        except InputError as error:
            problems.extend(error.problems)
            continue
        other = found.setdefault(manifest.name, manifest)
        if other is not manifest:
            message = f"has the name `{manifest.name}`, as {other.path} has; give one of them another `name:`"
            problems.append(Problem(str(manifest.path), message))
    if problems:
        raise InputError(problems)
    return list(found.values())


def manifest_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of manifests given by path, or by name where no such file exists any more."""
    if not paths:
        return ()
    from runner.manifest import load

    return tuple(load(path).name if path.exists() or path.suffix else str(path) for path in paths)


def check_known(paths: Sequence[Path], known: Container[str], ledger: Path) -> None:
    """Raises UsageError for a manifest given by a name that the ledger has never heard of."""
    for path, name in zip(paths, manifest_names(paths), strict=True):
        if name not in known and not path.exists():
            raise UsageError(f"no file and no manifest `{name}` in the ledger {ledger}")


@asynccontextmanager
async def reading_ledger(place: Workplace) -> AsyncIterator[Ledger]:
    """The ledger to look at; an empty one where there is none yet."""
    async with await Ledger.open(place.ledger if place.ledger.exists() else ":memory:") as ledger:
        yield ledger


@dataclass(frozen=True, slots=True)
class Prepared:
    """Manifests as the ledger has them: their keys there, and what is worth telling."""

    keys: tuple[int, ...]
    notes: tuple[str, ...]


Progress = Callable[[int], None]


async def adopt(
    ledger: Ledger, manifests: Sequence[Manifest], output: Path, progress: Progress
) -> Prepared:
    """Brings the manifests into the ledger; those that have not changed are not even expanded."""
    sources = _sources(manifests, output)
    notes = [note for manifest in manifests for note in manifest.notes]
    if not await _all_known(ledger, sources):
        planning = Planning(ledger)
        notes += await _stage(planning, ledger, manifests, output, progress)
        await planning.adopt(sources, time.time())
        await planning.end()
    found = [await find_manifest(ledger, source.name) for source in sources]
    return Prepared(tuple(row[0] for row in found if row is not None), tuple(notes))


async def compare(
    ledger: Ledger, manifests: Sequence[Manifest], output: Path, progress: Progress
) -> Comparison:
    """What a run of the manifests would find; changes nothing."""
    planning = Planning(ledger)
    notes = [note for manifest in manifests for note in manifest.notes]
    notes += await _stage(planning, ledger, manifests, output, progress)
    comparison = await planning.compare([manifest.name for manifest in manifests], notes)
    await planning.end()
    return comparison


async def check_origin(ledger: Ledger, *, simulated: bool) -> None:
    """Keeps simulated and real jobs apart: a ledger holds the one kind or the other."""
    now = "yes" if simulated else "no"
    before = await ledger.fact(SIMULATED_FACT)
    if before is None:
        await ledger.remember(SIMULATED_FACT, now)
    elif before != now:
        kinds = ("simulated", "real") if simulated else ("real", "simulated")
        raise UsageError(
            f"the ledger {ledger.path} holds jobs of a {kinds[1]} API and this run is for a {kinds[0]} "
            "one; name another ledger with --ledger"
        )


def shell(paths: Sequence[Path]) -> str:
    """The paths as they are typed in a shell."""
    return shlex.join(str(path) for path in paths)


def _sources(manifests: Sequence[Manifest], output: Path) -> list[Source]:
    folder = output.resolve()
    return [Source(m.name, m.path.resolve(), m.fingerprint(), folder) for m in manifests]


async def _all_known(ledger: Ledger, sources: Sequence[Source]) -> bool:
    from runner.assembly.looking import inputs_unchanged

    for source in sources:
        known = await find_manifest(ledger, source.name)
        if known is None or known[1:] != (source.fingerprint, str(source.output_directory)):
            return False
        if not await inputs_unchanged(ledger, known[0], source.path.parent):
            return False
    return True


async def _stage(
    planning: Planning,
    ledger: Ledger,
    manifests: Sequence[Manifest],
    output: Path,
    progress: Progress,
) -> list[str]:
    # Here: whoever only looks at a ledger needs nothing of manifests, and starts sooner.
    from runner.assembly.looking import Looks

    looks = Looks(ledger)
    await planning.begin()
    folder = await anyio.to_thread.run_sync(output.resolve)
    count = 0
    for manifest in manifests:
        jobs: Iterator[Any] = iter(manifest.jobs(looks))
        # In a thread: files that are sent are read whole, and a signal must not wait for all of them.
        while batch := await anyio.to_thread.run_sync(_batch, jobs):
            await looks.keep()
            await planning.stage(batch)
            count += len(batch)
            progress(count)
    return await planning.check(folder)


def _batch(jobs: Iterator[Any]) -> list[Any]:
    """The next jobs, as many as are found in a moment."""
    batch: list[Any] = []
    ends_at = time.monotonic() + STAGE_MOMENT_S
    for job in jobs:
        batch.append(job)
        if len(batch) == STAGE_BATCH or time.monotonic() > ends_at:
            break
    return batch


def _beside(path: Path, name: Path) -> Path:
    return path.with_name(name.name)


def _named_options(place: Place) -> str:
    parts: list[str] = []
    for option, value in (
        ("-c", place.config),
        ("--ledger", place.ledger),
        ("--output", place.output),
    ):
        if value is not None:
            parts += [option, str(value)]
    return shlex.join([*parts, *(["--sandbox"] if place.sandbox else [])])
