"""Finds out which jobs in flight are finished: one by one, or many by a page of the history."""

from runner.poller.pages import Pages
from runner.poller.poller import Poller

__all__ = ["Pages", "Poller"]
