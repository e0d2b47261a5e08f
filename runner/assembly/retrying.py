"""Deciding anew about jobs that ended short of saved, with the lock held."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from runner.assembly.session import Workplace
from runner.errors import UsageError
from runner.job import RETRYABLE_STATES, State
from runner.ledger import Ledger, LedgerLock
from runner.ledger.reading import Selection, count_selected, retry

# Their first submit was or may have been accepted, and with it paid.
MAY_PAY_TWICE = frozenset({State.IN_DOUBT, State.EXPIRED})


async def retry_jobs(at: Workplace, chosen: Selection, consent: Callable[[int], None]) -> int:
    """Puts jobs back to pending; says how many. Without states: failed ones, or any that are named.

    `consent` is asked about so many that may be paid for twice; it raises to leave all as it is.
    """
    if not at.ledger.exists():
        raise UsageError(f"there is no ledger at {at.ledger}; name it with --ledger")
    states = chosen.states or (tuple(RETRYABLE_STATES) if chosen.ids else (State.FAILED,))
    chosen = replace(chosen, states=states)
    risky = replace(chosen, states=tuple(state for state in states if state in MAY_PAY_TWICE))
    with LedgerLock(at.ledger) as lock:
        lock.acquire(time.time())
        async with await Ledger.open(at.ledger) as ledger:
            count = await count_selected(ledger, risky) if risky.states else 0
            if count:
                consent(count)
            return await retry(ledger, chosen, time.time())


def twice_words(count: int) -> str:
    """What has to be said before so many jobs are sent again that were or may have been accepted."""
    jobs = "1 job has" if count == 1 else f"{count:,} jobs have"
    return f"{jobs} been paid for, or may have been; sending again may pay twice"
