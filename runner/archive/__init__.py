"""The request history: reading it, and what its rows make of a job."""

from runner.archive.archive import Archive, View
from runner.archive.outcome import conclude

__all__ = ["Archive", "View", "conclude"]
