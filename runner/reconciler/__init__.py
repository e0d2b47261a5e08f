"""Asks the request history before anybody pays: what became of jobs in doubt, and of expired ones."""

from runner.reconciler.reconciler import REQUEUE_LIMIT, Reconciler
from runner.reconciler.rules import DoubtRules, Report

__all__ = ["REQUEUE_LIMIT", "DoubtRules", "Reconciler", "Report"]
