"""The ledger: every job's state and history in one SQLite file."""

from runner.ledger.ledger import Event, Ledger, Span
from runner.ledger.lock import LedgerLock
from runner.ledger.planning import Comparison, Group, Planning, Source, find_manifest
from runner.ledger.records import Counts, Listed, Record, Recorded

__all__ = [
    "Comparison",
    "Counts",
    "Event",
    "Group",
    "Ledger",
    "LedgerLock",
    "Listed",
    "Planning",
    "Record",
    "Recorded",
    "Source",
    "Span",
    "find_manifest",
]
