"""A browser and galleries to open in it; without a browser these tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from exhibition import a_night, hang
from visiting import ARGUMENTS, NEEDS_CHROMIUM, NEEDS_PLAYWRIGHT, apart


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDS_PLAYWRIGHT)
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(NEEDS_CHROMIUM)
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def night(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger and an output folder whose gallery has been written."""
    folder = tmp_path_factory.mktemp("night")
    apart(lambda: hang(folder, a_night(), simulated=True))
    written = Desk(folder).process("gallery")
    assert written.status == 0, written.words
    return folder


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a window of its own; whatever the page complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(address: str, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A file that has vanished is a file not found; everything else is a fault.
    assert [text for text in complaints if "ERR_FILE_NOT_FOUND" not in text] == []


@pytest.fixture
def gallery(night: Path, visit: Callable[..., Any]) -> Callable[..., Any]:
    """The gallery of the night, from disk."""

    def open_gallery(fragment: str = "", **options: Any) -> Any:
        page = visit((night / "output/gallery.html").as_uri() + fragment, **options)
        page.wait_for_selector("#tiles .tile, .plot, .need", state="attached")
        return page

    return open_gallery
