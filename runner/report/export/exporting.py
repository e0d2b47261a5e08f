"""One export from beginning to end, whatever its format."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from runner.errors import StoppedEarly, UsageError
from runner.report.export.columns import columns_of
from runner.report.export.destination import Destination, open_destination
from runner.report.export.listing import export_imagefolder, export_jsonl
from runner.report.export.shards import Packing, export_shards
from runner.report.export.source import Inspection, Outcome, Wanted, inspect

FORMATS = ("imagefolder", "jsonl", "parquet", "webdataset")
ALL_MEDIA = ("image", "video", "audio", "text", "other")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Form:
    """What an export is to look like."""

    format: str
    shard_bytes: int
    paths: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What was found, of which media the export is, and what became of it."""

    inspection: Inspection
    media: tuple[str, ...]
    outcome: Outcome


async def export(wanted: Wanted, folder: Path, form: Form) -> Exported:
    """Exports the saved files of a manifest; what an earlier export has finished is kept.

    Raises UsageError for a folder that holds anything else, or a manifest that the format cannot hold;
    StoppedEarly when the disk is full or cannot be written.
    """
    inspection = await inspect(wanted)
    media = _media(inspection, form)
    open_it = partial(open_destination, folder, wanted.output, _made_with(wanted, form))
    try:
        destination = await anyio.to_thread.run_sync(open_it)
        outcome = await _export(wanted, destination, media, form, inspection)
    except OSError as error:
        words = error.strerror or str(error)
        if error.errno in _FULL:
            raise StoppedEarly(
                f"the disk of {folder} is full ({words}); make room and give the same command again: it "
                "goes on with what is missing"
            ) from error
        raise StoppedEarly(f"cannot write to {folder}: {words}") from error
    return Exported(inspection, media, outcome)


async def _export(
    wanted: Wanted,
    destination: Destination,
    media: tuple[str, ...],
    form: Form,
    inspection: Inspection,
) -> Outcome:
    if form.format == "imagefolder":
        return await export_imagefolder(wanted, destination, media)
    if form.format == "jsonl":
        with_texts = inspection.media["text"] > 0
        return await export_jsonl(wanted, destination, media, with_texts=with_texts)
    surveys = [survey for medium, survey in inspection.surveys.items() if medium in media]
    columns = columns_of(surveys, typed=form.format == "parquet")
    if form.format == "webdataset":
        from runner.report.export.webdataset import write_tar

        tar = partial(write_tar, output=wanted.output, columns=columns)
        packing = Packing(tar, ".tar", columns, form.shard_bytes)
    else:
        from runner.report.export.parquet import Table, write_parquet

        table = Table(wanted.output.resolve(), columns, media[0], form.paths)
        parquet = partial(write_parquet, table=table)
        packing = Packing(parquet, ".parquet", columns, form.shard_bytes)
    return await export_shards(wanted, destination, media, packing)


def _media(inspection: Inspection, form: Form) -> tuple[str, ...]:
    """What the format takes: all, or the one medium that it can hold."""
    if form.format in ("jsonl", "webdataset"):
        return ALL_MEDIA
    main = inspection.main_medium
    if main is None and not inspection.media:
        raise UsageError("nothing is saved yet, so there is nothing to export")
    if main is None or (main == "text" and form.format == "imagefolder"):
        raise UsageError(f"there are no pictures for {form.format}; --format jsonl takes any file")
    return (main,)


def _made_with(wanted: Wanted, form: Form) -> dict[str, object]:
    made: dict[str, object] = {
        "format": form.format,
        "manifest": wanted.manifest,
        "tags": sorted(wanted.tags),
        "test split": wanted.test_share,
    }
    if form.format in ("parquet", "webdataset"):
        made["shard size"] = form.shard_bytes
    if form.format == "parquet":
        made["paths"] = form.paths
    return made
