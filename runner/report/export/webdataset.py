"""Tar files as `webdataset` reads them: `key.png`, `key.txt` (the prompt) and `key.json` side by side.

The same items give the same bytes: no times, owners or modes of this machine.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from runner.report.export.columns import Columns
from runner.report.export.rows import Item
from runner.report.export.shards import Written
from runner.report.export.source import Broken, whole_path


def write_tar(path: Path, items: Sequence[Item], output: Path, columns: Columns) -> Written:
    """Writes the items to a new tar file."""
    written = Written()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for item in items:
            try:
                file = whole_path(output, item).open("rb")
            except Broken as error:
                written.broken.append(str(error))
                continue
            row = columns.row(item.fields())
            with file:
                _add(archive, f"{item.key}.{item.extension}", file, item.size_bytes)
            if item.medium != "text":
                _add_text(archive, f"{item.key}.txt", str(row.get("prompt") or ""))
            # A result that is JSON has that name itself.
            name = "meta.json" if item.extension == "json" else "json"
            _add_text(archive, f"{item.key}.{name}", json.dumps(row, ensure_ascii=False))
            written.items += 1
    return written


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    _add(archive, name, io.BytesIO(data), len(data))


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], size_bytes: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    archive.addfile(member, file)
