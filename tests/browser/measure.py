"""How long a reader waits: `python tests/browser/measure.py [COUNT | FOLDER]`.

COUNT synthetic pictures (10,000 when nothing is said) are made in a temporary folder; a FOLDER is one that
holds a gallery.html already. Tells the time to write the gallery, to the first picture on the screen, until
all data are there, from a keystroke to the filtered result on the screen, and how smoothly it scrolls.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import click
from desk import Desk
from exhibition import hang, many
from playwright.sync_api import sync_playwright

OPENINGS = 5
FIRST_PICTURE = """() => new Promise((done) => {
  const look = () => {
    const picture = document.querySelector('#tiles img, .tile img');
    if (picture?.complete && picture.naturalWidth) requestAnimationFrame(() => done(performance.now()));
    else requestAnimationFrame(look);
  };
  look();
})"""
ALL_DATA = """() => new Promise((done) => {
  const look = () => store.chunksLeft ? setTimeout(look, 5) : done(performance.now());
  look();
})"""
FILTER = """(words) => new Promise((done) => {
  const field = document.getElementById('search');
  field.value = words;
  const began = performance.now();
  field.dispatchEvent(new Event('input'));
  const tell = () => done([performance.now() - began, document.getElementById('found').textContent]);
  requestAnimationFrame(() => setTimeout(tell));
})"""
SCROLL = """() => new Promise((done) => {
  const frames = [];
  let last = performance.now(), left = 120;
  const step = (now) => {
    frames.push(now - last);
    last = now;
    window.scrollBy(0, 400);
    if (left--) requestAnimationFrame(step);
    else {
      const slow = frames.sort((a, b) => a - b)[Math.floor(frames.length * 0.95)];
      done([slow, document.querySelectorAll('#tiles *').length]);
    }
  };
  requestAnimationFrame(step);
})"""


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else "10000"
    if given.isdigit():
        with tempfile.TemporaryDirectory() as folder:
            measure(made(Path(folder), int(given)))
    else:
        measure(Path(given))


def made(folder: Path, count: int) -> Path:
    """The output folder of a gallery of that many pictures."""
    asyncio.run(hang(folder, list(many(count))))
    for what in ("written with all thumbnails", "written again"):
        began = time.perf_counter()
        done = Desk(folder).run("gallery")
        click.echo(f"{what}: {time.perf_counter() - began:.2f} s ({done.out.strip()})")
    return folder / "output"


def measure(output: Path) -> None:
    """Prints the medians of some openings."""
    firsts, alls, filters, frames = [], [], [], []
    with sync_playwright() as tools:
        for _ in range(OPENINGS):
            browser = tools.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--headless", "--no-sandbox", "--disable-gpu"],
            )
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto((output / "gallery.html").resolve().as_uri(), wait_until="commit")
            firsts.append(page.evaluate(FIRST_PICTURE))
            alls.append(page.evaluate(ALL_DATA))
            page.wait_for_timeout(300)
            found: Any = None
            for words in ("a", "fox", "bench", "dusk water", ""):
                spent, found = page.evaluate(FILTER, words)
                filters.append(spent)
            seen = page.evaluate(SCROLL)
            frames.append(seen[0])
            click.echo(
                f"  {firsts[-1]:.0f} ms to the first picture, {alls[-1]:.0f} ms to all data; {found!r}"
            )
            browser.close()
    load, processors = os.getloadavg()[0], os.cpu_count()
    click.echo(f"load of the machine: {load:.1f} on {processors} processors")
    click.echo(f"first picture:   {statistics.median(firsts):.0f} ms")
    click.echo(f"all data:        {statistics.median(alls):.0f} ms")
    click.echo(
        f"filtered result: {statistics.median(filters):.0f} ms, at most {max(filters):.0f} ms"
    )
    click.echo(f"scrolling:       95 % of frames within {statistics.median(frames):.0f} ms")
    click.echo(f"elements in the sheet while scrolling: {seen[1]}")


if __name__ == "__main__":
    main()
