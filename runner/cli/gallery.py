"""`runner gallery`: a page beside the results that shows them all; `--serve` follows a run."""

from __future__ import annotations

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
    from runner.assembly.gallery import scope_of
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
    from runner.assembly.gallery import scope_of
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
