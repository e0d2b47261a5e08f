"""A job as the page has it: plain JSON, with nothing in it that says nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.job import SavedFile
from runner.ledger import Listed
from runner.report.gallery.thumbnails import Thumbnails

# A page from disk cannot read files: what a text result says comes with its row, up to here.
LONGEST_TEXT = 4_000
# What could end an element or a line of a script; and half a character, which no file can hold.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_TEXTS = ("text/", "application/json", "application/xml")


def row_of(job: Listed, output: Path, thumbnails: Thumbnails) -> dict[str, Any]:
    """The row of a job; looks at its files on disk. Times are epoch seconds, money US dollars."""
    row = {
        "key": job.key,
        "id": job.id,
        "manifest": job.manifest,
        "model": job.model,
        "state": job.state.value,
        "params": job.params,
        "tags": job.tags,
        "meta": job.meta,
        "index": job.index,
        "repeat": job.repeat,
        "request_id": job.request_id,
        "submitted": job.submitted_at,
        "completed": job.completed_at,
        "cost": job.cost,
        "error": job.error,
        "source": _source(job.source),
        "attempts": job.posts,
        "files": [_file(file, output, thumbnails) for file in job.files if file.path],
    }
    return {name: value for name, value in row.items() if value or value == 0}


def encode(value: Any) -> str:
    """JSON that is harmless wherever a page holds it: inside an element, inside a script."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def script(rows: Iterable[str]) -> bytes:
    """A data file: it hands its rows to the page, which may not read files but may run scripts."""
    # As a text to be parsed, which is quicker than a literal and gives `__proto__` no meaning.
    text = ",".join(rows).replace("\\", "\\\\").replace("'", "\\'")
    text = f"galleryRows(JSON.parse('[{text}]'));\n"
    return text.encode()


def _source(source: str) -> str:
    """Where a job is written; the folders of this machine are nobody else's business."""
    return Path(source).name if Path(source).is_absolute() else source


def _file(file: SavedFile, output: Path, thumbnails: Thumbnails) -> dict[str, Any]:
    path = output / (file.path or "")
    content_type = file.content_type or "application/octet-stream"
    entry: dict[str, Any] = {
        "path": file.path,
        "bytes": file.size_bytes,
        "type": content_type,
    }
    if not path.is_file():
        entry["gone"] = True
    if (small := thumbnails.of(file)) is not None:
        entry |= {"thumb": small.path, "w": small.width, "h": small.height, "colour": small.colour}
    elif content_type.startswith(_TEXTS) and "gone" not in entry:
        entry["text"] = _excerpt(path)
    return entry


def _excerpt(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_TEXT + 1)
    except OSError:
        return ""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
