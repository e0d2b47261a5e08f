"""Knows files again in what the request history shows of a request, however they were sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.ledger import Ledger, Record
from runner.ledger.inputs import contents_of
from runner.policy.history import Row, canonical
from runner.references import digest_in, digested, locations, recognised


@dataclass(frozen=True, slots=True)
class Recognised:
    """Rows and jobs whose bodies can be compared. `bodies`: by the job's key."""

    rows: list[Row]
    bodies: dict[int, Any]
    clear: list[Record]


async def recognise(
    ledger: Ledger,
    records: Sequence[Record],
    rows: Sequence[Row],
    sending: Iterable[tuple[str, str]],
) -> Recognised:
    """The rows and the jobs in doubt with every file as its content, uploaded or inline.

    `sending`: model and parameters of what is being sent; `clear` are the jobs that have no like there.
    """
    bodies = {record.key: digested(record.params) for record in records}
    sent = [(model, digested(json.loads(params))) for model, params in sending]
    all_bodies = [*bodies.values(), *(body for _, body in sent), *(row.body for row in rows)]
    texts = {text for body in all_bodies for text in locations(body)}
    contents = await contents_of(ledger, texts)
    own = {sha256 for record in records for sha256 in record.inputs}
    contents |= {text: digest for text in texts if (digest := digest_in(text)) in own and digest}
    bodies = {key: recognised(body, contents) for key, body in bodies.items()}
    busy = {(model, canonical(recognised(body, contents))) for model, body in sent}
    return Recognised(
        [replace(row, body=recognised(row.body, contents)) for row in rows] if texts else [*rows],
        bodies,
        [each for each in records if (each.model, canonical(bodies[each.key])) not in busy],
    )
