"""Reads the request history: one request by its id, or a model's rows page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from runner.api import Api, HistoryQuery
from runner.events import Answered, Call, Observer
from runner.governor import Governor, Urgency
from runner.job import Answer
from runner.policy.history import Row, reaches_back, row_of, rows_of

PAGE_LIMIT = 200
# A page that repeats what is known may be one that later requests have pushed down; two may not.
STALE_LIMIT = 2
BUSY_LIMIT = 3
UNUSABLE_WAIT_S = 1.0
UNUSABLE_CAP_S = 300.0
# The API takes 31 days at most, the last of them being tomorrow.
LONGEST_SPAN_DAYS = 29
# Pages that take longer than this each were interrupted by a hold of the rate.
CALM_S = 15.0
CALM_TRIES = 3


@dataclass(slots=True)
class View:
    """The rows of one model since some time; `whole` when none can be missing.

    `taken_at`: the server's time when the first page was asked for, or a little before. `cut`: requests
    that begin a page.
    """

    rows: list[Row] = field(default_factory=list)
    whole: bool = False
    usable: bool = False
    pages: int = 0
    taken_at: float | None = None
    cut: set[str] = field(default_factory=set)

    def has_passed(self, request_id: str) -> bool:
        """Whether the rows of a request have begun and ended here."""
        return request_id in _passed(self.rows, (request_id,))

    def may_lack(self, request_id: str) -> bool:
        """Whether rows of a request may be missing for all that has passed since.

        An empty page ends the list, or a history shows nothing for a while; and what begins a page may
        have begun on the one before, after that was read.
        """
        return request_id in self.cut or self.rows[-1].request_id == request_id


class Archive:
    """The request history as far as it can be read; `unusable` counts failures in a row."""

    def __init__(self, api: Api, governor: Governor, observer: Observer) -> None:
        self._api = api
        self._governor = governor
        self._observer = observer
        self.unusable = 0

    def patience_s(self) -> float:
        """How long a history that cannot be used is left alone."""
        return min(UNUSABLE_WAIT_S * 2.0 ** min(self.unusable, 16), UNUSABLE_CAP_S)

    async def row(self, request_id: str) -> tuple[bool, Row | None]:
        """Whether the history answers for one own request, and the row of it that it has."""
        answer = await self._ask(partial(self._api.history_of, request_id))
        if answer.status not in (200, 404):
            self.unusable += 1
            return False, None
        return True, _row_in(answer, request_id)

    async def view(
        self, model: str, since: float, until_passed: Collection[str] = (), newest: float = 0.0
    ) -> View:
        """The model's rows since a time of the server's, page by page, until none can be missing.

        With `until_passed` it ends when the rows of all these requests have passed. Pages that were
        read too far apart are read again: what came in between has moved rows from one to the other.
        """
        for _ in range(CALM_TRIES):
            began, view = (
                self._governor.now(),
                await self._pages(model, since, until_passed, newest=newest),
            )
            view.taken_at = self._governor.server.earliest(began)
            if view.pages < 2 or self._governor.now() - began < CALM_S * view.pages:
                break
        return view

    async def newest(self, since: float, request_ids: Collection[str], pages: int) -> View:
        """The newest rows of all models: so many pages, and more only to end what is one of these requests.

        It ends sooner where all of them have passed, or all since a time of the server's.
        """
        return await self._pages(None, since, request_ids, pages)

    async def _pages(
        self,
        model: str | None,
        since: float,
        until_passed: Collection[str],
        most: int = PAGE_LIMIT,
        newest: float = 0.0,
    ) -> View:
        view = View()
        dates, covers = self._dates(since, newest)
        seen: set[tuple[str, str | None]] = set()
        stale = 0
        for number in range(1, PAGE_LIMIT + 1):
            query = HistoryQuery(*dates, model, number)
            answer = await self._ask(partial(self._api.history, query))
            page = rows_of(answer.body) if answer.status == 200 else None
            if page is None:
                self.unusable += 1
                return View()
            self.unusable = 0
            view.usable, view.pages = True, number
            fresh = [row for row in page if (row.request_id, row.url) not in seen]
            if page and view.rows and view.rows[-1].request_id != page[0].request_id:
                view.cut.add(page[0].request_id)
            seen.update((row.request_id, row.url) for row in fresh)
            view.rows += fresh
            # The outputs of one request may stand on two pages, whatever the clocks say of their time.
            passed = _passed(view.rows, until_passed)
            is_open = any(
                row.request_id in until_passed and row.request_id not in passed for row in view.rows
            )
            if not page or (reaches_back(page, since) and not is_open):
                view.whole = covers
                return view
            # A server that does not turn the page shows the newest rows for ever, and never the older.
            stale = 0 if fresh else stale + 1
            enough = number >= most and view.rows[-1].request_id not in until_passed
            if stale == STALE_LIMIT or enough or passed.issuperset(until_passed or (None,)):
                return view
        return view

    def _dates(self, since: float, newest: float) -> tuple[tuple[str, str], bool]:
        """The days to ask for, and whether they reach back as far as wanted.

        `newest`: a time of the server's that is known to have been, whatever our own clock says.
        """
        day = timedelta(days=1)
        now = self._governor.now()
        latest = max(self._governor.server.latest(now) or now, newest)
        today = datetime.fromtimestamp(latest, UTC).date()
        # A day more on both sides, for the server's own idea of the date.
        wanted = datetime.fromtimestamp(since, UTC).date() - day
        first = max(wanted, today - LONGEST_SPAN_DAYS * day)
        return (first.isoformat(), (today + day).isoformat()), first == wanted

    async def _ask(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """One answer of the history; a rate limit is waited out some times, for the page's sake."""
        for _ in range(BUSY_LIMIT):
            await self._governor.turn(Urgency.ASIDE)
            answer = await request()
            self._observer(Answered(Call.HISTORY, answer.status, answer.seconds))
            if answer.status is not None:
                self._governor.reached(answer)
            if answer.status != 429:
                break
            self._governor.rate_limited(answer)
        return answer


def _row_in(answer: Answer, request_id: str) -> Row | None:
    """The row of a request in the answer to the question for it."""
    if answer.status != 200:
        return None
    row = row_of(answer.body)
    found = rows_of(answer.body) or [] if row is None else [row]
    return next((each for each in found if each.request_id == request_id), None)


def _passed(rows: Sequence[Row], request_ids: Collection[str]) -> set[str]:
    """Those of the requests whose rows have begun and ended: an older row follows on all of them.

    Newer rows that follow prove nothing: they landed meanwhile and pushed older ones to the next page.
    """
    oldest = float("inf")
    passed: set[str] = set()
    unpassed: set[str] = set()
    for row in reversed(rows):
        created = row.created
        if row.request_id in request_ids:
            has_older = created is not None and created > oldest
            (passed if has_older else unpassed).add(row.request_id)
        oldest = oldest if created is None else min(oldest, created)
    return passed - unpassed
