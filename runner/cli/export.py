"""`runner export`: saved files as a dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from runner.assembly.place import Place
from runner.cli.options import place_options
from runner.errors import EXIT_OK, EXIT_UNSAVED, UsageError

if TYPE_CHECKING:
    from runner.report.export.exporting import Exported

MOST_BROKEN_SHOWN = 5
_UNITS_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class _Size(click.ParamType[int]):
    """A number of bytes, written like `500MB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]B)", value.strip().upper())
        if found is None or float(found[1]) == 0:
            self.fail(f"`{value}` is no size like 500MB or 1GB", param, ctx)
        return int(float(found[1]) * _UNITS_BYTES[found[2]])


@click.command("export")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("dest", type=click.Path(path_type=Path))
@place_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["imagefolder", "jsonl", "parquet", "webdataset"]),
    default="imagefolder",
    show_default=True,
    help="What DEST is to be.",
)
@click.option(
    "--test-split",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Share of the prompts that goes to a test split, such as 0.1; the same ones every time.",
)
@click.option(
    "--shard-size",
    type=_Size(),
    default="500MB",
    show_default=True,
    help="Size of the files of parquet and webdataset.",
)
@click.option(
    "--paths", is_flag=True, help="parquet: name the files instead of holding their bytes."
)
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only jobs with this tag; may be repeated."
)
def export_command(
    manifest: Path,
    dest: Path,
    place: Place,
    form: str,
    test_split: float,
    shard_size: int,
    paths: bool,
    tags: tuple[str, ...],
) -> int:
    """Export a manifest's saved files to the folder DEST as a dataset.

    Given again, it goes on where it was stopped and adds what was saved since. Every file is verified.
    """
    if paths and form != "parquet":
        raise UsageError("--paths is for --format parquet")
    if form == "parquet":
        _check_pyarrow()
    from runner.report.export.exporting import Form

    return anyio.run(
        _export, manifest, dest, place, Form(form, shard_size, paths), tags, test_split
    )


async def _export(
    manifest: Path, dest: Path, place: Place, form: Any, tags: tuple[str, ...], test_share: float
) -> int:
    from runner.assembly.session import check_known, manifest_names, reading_ledger, workplace
    from runner.ledger.reading import counts
    from runner.report.export.exporting import export
    from runner.report.export.source import Wanted

    at = workplace(place, reading=True)
    (name,) = manifest_names((manifest,))
    async with reading_ledger(at) as ledger:
        known = await counts(ledger)
        check_known((manifest,), known, at.ledger)
        if name not in known:
            raise UsageError(
                f"the ledger {at.ledger} has no jobs of `{name}` yet; `runner run {manifest}` makes them"
            )
        wanted = Wanted(ledger, at.output, name, frozenset(tags), test_share)
        done = await export(wanted, dest, form)
    badge = "SIMULATED  " if at.simulated else ""
    for line in _words(done, dest, form.format):
        click.echo(badge + line)
        badge = ""
    for reason in done.outcome.broken[:MOST_BROKEN_SHOWN]:
        click.echo(f"warning: not exported: {reason}", err=True)
    if not done.outcome.broken:
        return EXIT_OK
    more = len(done.outcome.broken) - MOST_BROKEN_SHOWN
    rest = f"… and {more:,} more; " if more > 0 else ""
    click.echo(f"warning: {rest}remove what is damaged; `runner run` fetches it again", err=True)
    return EXIT_UNSAVED


def _words(done: Exported, dest: Path, form: str) -> list[str]:
    """What was exported, what was not and why, and how it is loaded."""
    outcome, found = done.outcome, done.inspection
    parts = " and ".join(f"{count:,} {split}" for split, count in outcome.exported.items())
    lines = [
        f"{_count(outcome.exported.total(), 'file')} exported to {dest} as {form}"
        + (f" ({parts})" if len(outcome.exported) > 1 else "")
        + (f"; {outcome.kept:,} of them were there already" if outcome.kept else "")
    ]
    for state, count in sorted(found.unsaved.items()):
        lines.append(f"  not exported: {_count(count, 'job')} {state.replace('_', ' ')}")
    for medium, count in sorted(found.media.items()):
        if medium not in done.media:
            lines.append(
                f"  not exported: {_count(count, 'file')} of {medium}, not {done.media[0]}"
            )
    if outcome.broken:
        lines.append(f"  not exported: {_count(len(outcome.broken), 'file')} gone or damaged")
    if outcome.exported:
        loader = {"image": "imagefolder", "video": "videofolder", "audio": "audiofolder"}
        names = {"jsonl": "json", "imagefolder": loader.get(done.media[0], "imagefolder")}
        lines.append(
            f'  load it: datasets.load_dataset("{names.get(form, form)}", data_dir="{dest}")'
        )
    return lines


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def _check_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UsageError(
            "--format parquet needs pyarrow: pip install 'segmind-runner[parquet]'"
        ) from None
