"""Which gallery belongs to a workplace, and the one that a run leaves at its end."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runner.assembly.control import Control
from runner.assembly.session import (
    SIMULATED_FACT,
    Workplace,
    check_known,
    manifest_names,
    shell,
)
from runner.events import Event, Noted
from runner.ledger import Ledger
from runner.ledger.reading import manifest_names as known_names
from runner.ledger.showing import manifest_places
from runner.report.gallery import Scope, write_gallery
from runner.report.words import printable

# At the end of a run nobody has asked for a gallery, so it must not be waited for.
LONGEST_END_S = 10.0
MOST_JOBS_AT_END = 20_000


async def scope_of(ledger: Ledger, at: Workplace, paths: tuple[Path, ...] = ()) -> Scope:
    """What a gallery of these manifests (all in the output folder when none) shows.

    Raises UsageError for a manifest that is no file and that the ledger does not know.
    """
    if paths:
        check_known(paths, await known_names(ledger), at.ledger)
    names = manifest_names(paths)
    # `run` needs its manifests named even where the other commands take all of them.
    places = [place.path for place in await manifest_places(ledger)]
    arguments = shell(paths or [_from_here(path) for path in places])
    options = at.options
    if at.simulated and "--sandbox" not in shlex.split(options):
        options = f"{options} --sandbox".strip()
    simulated = at.simulated or await ledger.fact(SIMULATED_FACT) == "yes"
    return Scope(at.output, names, arguments, options, simulated)


async def gallery_of_run(
    ledger: Ledger, at: Workplace, control: Control, see: Callable[[Event], None]
) -> str:
    """Writes the gallery at the end of a run, in a bounded time; its page, or nothing and a warning.

    Whatever goes wrong here is no fault of the run. Whoever asks once more for its end gets it.
    """
    before = control.times_asked
    if before > 1:
        return ""
    until_s = time.monotonic() + LONGEST_END_S

    def enough() -> bool:
        return control.times_asked > before or time.monotonic() > until_s

    try:
        scope = replace(await scope_of(ledger, at), most=MOST_JOBS_AT_END)
        written = await write_gallery(ledger, scope, enough)
    except Exception as error:
        see(Noted(f"the gallery was not written: {printable(str(error))}", warning=True))
        return ""
    if written.unmade:
        pictures = "1 picture has" if written.unmade == 1 else f"{written.unmade:,} pictures have"
        command = " ".join(filter(None, ("runner gallery", at.options)))
        see(Noted(f"{pictures} no thumbnail yet; `{command}` makes them"))
    return str(written.page)


def _from_here(path: str) -> Path:
    """A path as one would type it: relative where it is below the working directory."""
    here = Path.cwd()
    return Path(os.path.relpath(path, here)) if Path(path).is_relative_to(here) else Path(path)
