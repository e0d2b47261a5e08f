"""Old stories made short: what the job's own row tells as well is dropped from its history.

Of a job that was sent once and saved long ago the rows of its submit and of its result say what
`submitted_at`, `request_id` and `completed_at` say. Whatever is out of the ordinary stays: refusals,
doubts, retries, notes, the ids of earlier attempts, and when it was saved. No money is touched.
"""

from __future__ import annotations

import sqlite3
from itertools import takewhile

from runner.ledger import queries
from runner.ledger.connection import transaction
from runner.ledger.ledger import Ledger

PAGE = 2000
MARK = "compacted"


async def compact(ledger: Ledger, before: float) -> bool:
    """Makes one page of the history older than `before` (epoch seconds) short; says whether to go on.

    Each row is looked at once, in the order of writing; jobs that are not saved by then keep theirs.
    """

    def work(database: sqlite3.Connection) -> bool:
        mark = database.execute(queries.GET_FACT, {"name": MARK}).fetchone()
        after = int(mark[0]) if mark else 0
        page = database.execute(queries.NEXT_ATTEMPTS, {"after": after, "limit": PAGE}).fetchall()
        old = list(takewhile(lambda row: row[1] < before, page))
        if not old:
            return False
        last = old[-1][0]
        with transaction(database):
            database.execute(queries.COMPACT, {"after": after, "last": last})
            database.execute(queries.PUT_FACT, {"name": MARK, "value": str(last)})
        return len(old) == PAGE

    return await ledger.call(work)
