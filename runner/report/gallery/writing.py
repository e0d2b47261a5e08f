"""The gallery on disk: thumbnails, data files, and last the page that refers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from runner.ledger import Ledger
from runner.media import put_in_place, write_whole
from runner.report.gallery.contents import Scope, Snapshot, take_snapshot
from runner.report.gallery.page import render_page
from runner.report.gallery.thumbnails import Thumbnails

PAGE_NAME = "gallery.html"
DATA = Path(".gallery", "data")
# Another writer's page may still be on its way to data files that are as young as this.
YOUNG_S = 600.0


@dataclass(frozen=True, slots=True)
class Written:
    """A gallery on disk; `unmade` pictures have no thumbnail yet and are shown as they are."""

    page: Path
    shown: int
    total: int
    unmade: int


async def write_gallery(
    ledger: Ledger,
    scope: Scope,
    enough: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Writes or renews the page in the output folder. Raises OSError where it cannot be written."""
    thumbnails = await anyio.to_thread.run_sync(Thumbnails, scope.output)
    snapshot = await take_snapshot(ledger, scope, thumbnails, enough, progress)
    page = await anyio.to_thread.run_sync(_write, scope.output, snapshot)
    return Written(page, snapshot.head["shown"], snapshot.total, snapshot.unmade)


def _write(output: Path, snapshot: Snapshot) -> Path:
    folder, page = output / DATA, output / PAGE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in snapshot.chunks.items():
        # Named by their content: what is there already need not be written again, but is in use.
        if (folder / name).exists():
            (folder / name).touch()
        else:
            _put(folder / name, data)
    _put(page, render_page(snapshot.head).encode())
    now_s = page.stat().st_mtime
    for path in folder.iterdir():
        if path.name not in snapshot.chunks and now_s - path.stat().st_mtime > YOUNG_S:
            path.unlink(missing_ok=True)
    return page


def _put(target: Path, data: bytes) -> None:
    part = target.with_name(f"{target.name}.part")
    write_whole(part, data)
    put_in_place(part, target)
