"""The gallery: one page beside the results that shows them all, from disk or from a server."""

from runner.report.gallery.contents import Scope, Snapshot, take_snapshot
from runner.report.gallery.page import render_page
from runner.report.gallery.thumbnails import Thumbnails
from runner.report.gallery.writing import DATA, PAGE_NAME, Written, write_gallery

__all__ = [
    "DATA",
    "PAGE_NAME",
    "Scope",
    "Snapshot",
    "Thumbnails",
    "Written",
    "render_page",
    "take_snapshot",
    "write_gallery",
]
