"""`runner gallery`: a page beside the results that shows them all; `--serve` follows a run."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import manifest_arguments, place_options
from runner.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from runner.assembly.session import Workplace
    from runner.ledger import Ledger
    from runner.report.gallery import Scope

DEFAULT_PORT = 8788
LOOPBACK = "127.0.0.1"


@click.command("gallery")
@manifest_arguments(required=False)
@place_options
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
@click.option(
    "--serve", is_flag=True, help="Serve it until interrupted, and follow a run while it goes on."
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address to serve on; any but this machine's own asks visitors for a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port to serve on; 0: any free port.",
)
def gallery_command(
    manifests: tuple[Path, ...], place: Place, show: bool, serve: bool, host: str, port: int
) -> int:
    """Write a page that shows every result: gallery.html in the output folder.

    It works from disk, from any web server and in a zip of the folder. Without MANIFEST it shows
    whatever is in the output folder.
    """
    context = click.get_current_context()
    for name, given in (("--host", "host"), ("--port", "port")):
        source = context.get_parameter_source(given)
        if source is click.core.ParameterSource.COMMANDLINE and not serve:
            raise UsageError(f"{name} is for --serve")
    if serve:
        return anyio.run(_serve, manifests, place, show, host, port)
    return anyio.run(_gallery, manifests, place, show)


async def _gallery(paths: tuple[Path, ...], place: Place, show: bool) -> int:
    from runner.assembly.session import reading_ledger, workplace
    from runner.report.gallery import write_gallery

    at = workplace(place, reading=True)
    _check_ledger(at)
    async with reading_ledger(at) as ledger:
        scope = await scope_of(ledger, at, paths)
        with _Bar() as bar:
            try:
                written = await write_gallery(ledger, scope, progress=bar.show)
            except OSError as error:
                raise UsageError(
                    f"the gallery cannot be written to {at.output}: {error.strerror or error}"
                ) from error
    jobs = "1 job" if written.total == 1 else f"{written.total:,} jobs"
    if written.shown < written.total:
        jobs = f"the newest {written.shown:,} of {jobs}"
    click.echo(f"{written.page}: {jobs}")
    if show:
        click.launch(written.page.resolve().as_uri())
    return EXIT_OK


async def _serve(paths: tuple[Path, ...], place: Place, show: bool, host: str, port: int) -> int:
    from runner.assembly.session import reading_ledger, workplace
    from runner.cli.gallery_server import serve

    at = workplace(place, reading=True)
    _check_ledger(at)
    async with reading_ledger(at) as ledger:
        scope = await scope_of(ledger, at, paths)
        await serve(ledger, scope, host, port, show=show)
    return EXIT_OK


def _check_ledger(at: Workplace) -> None:
    if not at.ledger.exists():
        raise UsageError(f"no ledger at {at.ledger} yet; `runner run MANIFEST` makes one")


async def scope_of(ledger: Ledger, at: Workplace, paths: tuple[Path, ...] = ()) -> Scope:
    """What a gallery of these manifests (all in the output folder when none) shows."""
    from runner.assembly.session import SIMULATED_FACT, check_known, manifest_names, shell
    from runner.ledger.reading import manifest_names as known_names
    from runner.ledger.showing import manifest_places
    from runner.report.gallery import Scope

    if paths:
        check_known(paths, await known_names(ledger), at.ledger)
    names = manifest_names(paths)
    places = [each for each in await manifest_places(ledger) if not names or each.name in names]
    # `run` needs its manifests named even where the others take all of them.
    arguments = shell(paths) if paths else shell([_from_here(place.path) for place in places])
    options = at.options
    if at.simulated and "--sandbox" not in shlex.split(options):
        options = f"{options} --sandbox".strip()
    simulated = at.simulated or await ledger.fact(SIMULATED_FACT) == "yes"
    return Scope(at.output, names, arguments, options, simulated)


def _from_here(path: str) -> Path:
    """A path as one would type it: relative where it is below the working directory."""
    here = Path.cwd()
    return Path(os.path.relpath(path, here)) if Path(path).is_relative_to(here) else Path(path)


class _Bar:
    """How far it is, on a terminal, where it takes long enough to ask."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def show(self, done: int, total: int) -> None:
        """Told after every few hundred jobs."""
        if sys.stderr.isatty() and done < total:
            self._shown = True
            click.echo(f"\rthumbnails: {done:,} of {total:,} jobs", nl=False, err=True)
