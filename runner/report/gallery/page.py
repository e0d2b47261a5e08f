"""The page itself: a template with its style and scripts put in, so that it is one file."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from runner.report.gallery.rows import encode

STYLE = "gallery.css"
# Classic scripts in this order: a page from disk cannot import modules.
SCRIPTS = (
    "store.js",
    "query.js",
    "tiles.js",
    "sheet.js",
    "grid.js",
    "attention.js",
    "clipboard.js",
    "lightbox.js",
    "overview.js",
    "toolbar.js",
    "main.js",
)


def render_page(head: dict[str, Any]) -> str:
    """The page for this head; its data files are loaded from beside it."""
    style, scripts = _asset(STYLE), [_asset(name) for name in SCRIPTS]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined
    )
    title = ", ".join(head["manifests"]) or "Gallery"
    return environment.get_template("page.html").render(
        title=title,
        head=Markup(encode(head)),  # noqa: S704  `encode` leaves no < > & in it
        simulated=head["simulated"],
        style=Markup(style),  # noqa: S704  a file of this package
        scripts=[Markup(text) for text in scripts],  # noqa: S704  files of this package
        style_source=_source(style),
        script_sources=" ".join(map(_source, scripts)),
    )


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text("utf-8")


def _source(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script: nothing else may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
