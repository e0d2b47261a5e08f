"""The history is asked before anybody pays: what becomes of jobs in doubt and of expired ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledgers import HOUR_S, NOW, StillGovernor, answer, column, get, job, no_answer, plan, sql

from runner.api import HistoryQuery
from runner.clock import ServerTime
from runner.events import Answered, Held
from runner.events import Call as CallOf
from runner.job import Answer, State, StepResult
from runner.ledger import Event, Ledger, Record, Span
from runner.ledger.reading import attempts
from runner.reconciler import DoubtRules, Reconciler
from runner.reconciler import reconciler as module

WAIT_S = 600.0
TIMEOUT_S = 60.0
GRACE_ENDS = NOW + TIMEOUT_S + WAIT_S
RULES = DoubtRules("reconcile", "recover", WAIT_S, TIMEOUT_S, HOUR_S)
FILE = "https://images.segmind.com/a.png"


@dataclass
class History:
    """The request history as the API tells it, and what was asked of it."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    lists: list[HistoryQuery] = field(default_factory=list)
    singles: list[str] = field(default_factory=list)
    troubles: list[Answer] = field(default_factory=list)
    per_page: int = 100
    turns_pages: bool = True
    skew_s: float | None = 0.0
    now: Callable[[], float] = lambda: NOW
    when_asked: Callable[[], Any] | None = None

    def add(self, request_id: str, at: float = NOW + 1, number: int = 0, **changes: Any) -> None:
        """A request for the prompt of job `number`."""
        self.rows.append(
            {
                "request_id": request_id,
                "model_name": "imagen",
                "model_status": "PENDING",
                "request_body": {"prompt": f"prompt {number}"},
                "model_created": datetime.fromtimestamp(at, UTC).isoformat(),
                "credits_deduction": 0.04,
                "generation_url": None,
                **changes,
            }
        )

    async def history(self, query: HistoryQuery) -> Answer:
        self.lists.append(query)
        if self.when_asked is not None:
            await self.when_asked()
        if self.troubles:
            return self.troubles.pop(0)
        rows = [row for row in self.rows if (query.model or "") in str(row.get("model_name"))]
        rows.sort(key=lambda row: str(row.get("model_created")), reverse=True)
        first = (query.page - 1) * self.per_page if self.turns_pages else 0
        return self._told({"data": rows[first : first + self.per_page], "page": query.page})

    async def history_of(self, request_id: str) -> Answer:
        self.singles.append(request_id)
        if self.troubles:
            return self.troubles.pop(0)
        found = [row for row in self.rows if row["request_id"] == request_id]
        return self._told(found[0]) if found else answer(404, {"error": "not found"})

    def _told(self, body: Any) -> Answer:
        server_time = None if self.skew_s is None else self.now() + self.skew_s
        return Answer(200, body, json.dumps(body)[:300], server_time=server_time)


@dataclass
class Night:
    """A ledger, a history, a clock, and who brings them together."""

    ledger: Ledger
    history: History
    governor: StillGovernor
    reconciler: Reconciler

    def under(self, **rules: Any) -> Night:
        """The same with other rules, as a new run has it."""
        reconciler = Reconciler(
            self.ledger,
            self.history,  # type: ignore[arg-type]
            self.governor,
            replace(RULES, **rules),
            self.governor.seen.append,
        )
        return replace(self, reconciler=reconciler)

    async def look(self, at: float | None = None) -> dict[str, State | None]:
        """One round; what it has moved."""
        self.governor.time = self.governor.time if at is None else at
        return {record.id: result.state for record, result in await self.round()}

    async def round(self) -> list[tuple[Record, StepResult]]:
        """One round; each job that it has moved, and where to."""
        found: list[tuple[Record, StepResult]] = []

        async def report(record: Record, result: StepResult) -> None:
            found.append((record, result))

        await self.reconciler.look(report)
        return found

    async def look_on(self, until: float) -> list[tuple[Record, StepResult]]:
        """All rounds that the reconciler asks for until a time, or until something moves."""
        while True:
            if found := await self.round():
                return found
            next_look = self.reconciler.next_look
            if next_look is None or next_look > until:
                return []
            self.governor.time = max(self.governor.time, next_look)

    def set_clock(self, jump_s: float) -> None:
        """Our clock is set while no run is under way, and the server tells its own to the next one."""
        true = self.governor.time
        self.governor.time += jump_s
        self.governor.server.hear(true, self.governor.time, 0.0)
        self.history.skew_s = -jump_s

    async def state(self, job_id: str = "j0") -> State:
        return (await get(self.ledger, job_id)).state

    async def send(self, number: int = 0, at: float = NOW) -> None:
        """The job's POST is under way."""
        record = await get(self.ledger, f"j{number}")
        server_at = self.governor.server.latest(at)
        assert await self.ledger.begin_submit(record, at, at + HOUR_S, server_at)

    async def doubt(self, number: int = 0, at: float = NOW) -> None:
        """The job's POST got no answer."""
        await self.send(number, at)
        record = await get(self.ledger, f"j{number}")
        ended = self.governor.server.latest(at)
        no_answer = Event(at, detail="no answer")
        assert await self.ledger.doubt(record, no_answer, Span(record.server_at, ended))

    async def own(self, request_id: str, number: int, at: float, *, shown: bool = True) -> None:
        """A job of ours that was accepted, and whether the history shows it."""
        await self.send(number, at)
        record = await get(self.ledger, f"j{number}")
        assert await self.ledger.accept(record, request_id, Event(at, 200))
        if shown:
            self.history.add(request_id, at, number)

    async def expire(self, request_id: str = "r-0", number: int = 0, at: float = NOW) -> None:
        """A job of ours whose hour has passed."""
        await self.own(request_id, number, at, shown=False)
        record = await get(self.ledger, f"j{number}")
        assert await self.ledger.end(record, State.EXPIRED, Event(at + HOUR_S, detail="gone"))


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as ledger:
        jobs = [job(n) for n in range(6)]
        jobs += [job(n, params={"prompt": "prompt 0"}, repeat=n) for n in (6, 7)]
        jobs += [job(n, model="imagen-4") for n in (8, 9)]
        await plan(ledger, jobs)
        governor = StillGovernor()
        governor.time = NOW + TIMEOUT_S
        history = History(now=governor.now)
        governor.server.hear(NOW, NOW, 0.0)
        bare = Night(ledger, history, governor, None)  # type: ignore[arg-type]
        yield bare.under()


# A request that the history has


async def test_a_request_in_the_history_is_adopted_within_its_hour(night: Night) -> None:
    await night.doubt()
    night.history.add("r-9", NOW + 2)
    assert await night.look() == {"j0": State.SUBMITTED}
    found = await get(night.ledger)
    assert found.request_id == "r-9"
    assert found.submitted_at == NOW + 2
    assert found.deadline == NOW + 2 + HOUR_S
    (*_, last) = await attempts(night.ledger, found.key)
    assert (last.action, last.request_id) == ("submitted", "r-9")


async def test_the_hour_runs_by_our_own_clock(night: Night) -> None:
    night.history.skew_s = 1000.0
    night.governor.server.hear(NOW + 1000, NOW, 0.0)
    await night.doubt()
    night.history.add("r-9", NOW + 1002)
    assert await night.look() == {"j0": State.SUBMITTED}
    assert (await get(night.ledger)).deadline == NOW + 2 + HOUR_S


async def test_without_the_servers_time_an_hour_that_is_over_by_our_clock_may_have_just_begun(
    night: Night,
) -> None:
    await night.doubt()
    night.history.add("r-0", NOW + 1)
    night.history.skew_s = None
    night.governor.server = ServerTime()

    await night.look(NOW + 24 * HOUR_S)

    found = await get(night.ledger)
    assert found.state is State.SUBMITTED
    assert found.deadline == NOW + 25 * HOUR_S


async def test_after_its_hour_the_history_tells_the_outcome(night: Night) -> None:
    await night.doubt()
    for n in range(3):
        url = f"{FILE}?{n}"
        night.history.add("r-9", NOW + 2, model_status="COMPLETED", generation_url=url)
    assert await night.look(NOW + 2 * HOUR_S) == {"j0": State.COMPLETED}
    record = await get(night.ledger)
    completed = await night.ledger.completed(record.key)
    assert completed is not None
    body = json.loads(completed[1])
    assert body["output"] == [f"{FILE}?{n}" for n in range(3)]
    assert record.request_id == "r-9"
    # Each row carries the whole price.
    assert await column(night.ledger, "cost") == 0.04


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ("CUDA out of memory", State.FAILED),
        (None, State.FAILED),
        ("blocked by the RAI filter", State.BLOCKED),
        ({"message": "blocked by the RAI filter"}, State.BLOCKED),
    ],
)
async def test_after_its_hour_a_failure_is_told_with_its_reason(
    night: Night, error: Any, state: State
) -> None:
    await night.doubt()
    night.history.add("r-9", NOW + 2, model_status="FAILED", error=error)
    assert await night.look(NOW + 2 * HOUR_S) == {"j0": state}
    assert await column(night.ledger, "error")
    assert await column(night.ledger, "cost") is None


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"model_status": "PENDING"}, id="still pending"),
        pytest.param({"model_status": "COMPLETED", "generation_url": None}, id="without a file"),
    ],
)
async def test_an_outcome_that_the_history_cannot_give_back_is_no_failure(
    night: Night, row: dict[str, Any]
) -> None:
    await night.doubt()
    night.history.add("r-9", NOW + 2, **row)
    assert await night.look(NOW + 2 * HOUR_S) == {"j0": State.SUBMITTED}
    assert (await get(night.ledger)).deadline == NOW + 2 + HOUR_S


async def test_equal_requests_are_given_to_equal_jobs_by_count(night: Night) -> None:
    for number in (0, 6, 7):
        await night.doubt(number)
    night.history.add("r-1", NOW + 1)
    night.history.add("r-2", NOW + 2)
    moved = await night.look()
    assert moved == {"j0": State.SUBMITTED, "j6": State.SUBMITTED}
    assert await night.look(NOW + 2 * HOUR_S) == {}
    ids = await sql(night.ledger, "SELECT request_id FROM jobs WHERE request_id IS NOT NULL")
    assert sorted(ids) == [("r-1",), ("r-2",)]


async def test_the_request_of_another_job_is_not_taken(night: Night) -> None:
    await night.own("r-1", 6, NOW)
    await night.doubt(0)
    assert await night.look() == {}


async def test_the_request_of_an_earlier_attempt_is_not_taken(night: Night) -> None:
    await night.own("r-1", 6, NOW - 30)
    record = await get(night.ledger, "j6")
    await night.ledger.end(record, State.FAILED, Event(NOW, detail="no", request_id="r-1"))
    await sql(night.ledger, "UPDATE jobs SET request_id = NULL WHERE id = 'j6'")
    await night.doubt(0)
    assert await night.look() == {}


async def test_an_equal_request_that_is_just_being_sent_is_not_taken(night: Night) -> None:
    await night.doubt(0)
    await night.send(6, NOW + 10)
    night.history.add("r-6", NOW + 10)
    assert await night.look() == {}
    # Its own answer comes, and with it its id.
    record = await get(night.ledger, "j6")
    await night.ledger.accept(record, "r-6", Event(NOW + 70, 200))
    assert await night.look(NOW + 400) == {}
    assert await night.state() is State.IN_DOUBT


async def test_a_request_that_begins_while_the_history_is_read_is_not_taken(night: Night) -> None:
    await night.doubt(0)

    async def begin() -> None:
        night.history.when_asked = None
        await night.send(6, NOW + 10)
        night.history.add("r-6", NOW + 10)

    night.history.when_asked = begin
    assert await night.look() == {}


async def test_a_job_whose_like_is_being_sent_is_looked_at_soon_again(night: Night) -> None:
    await night.doubt(0)
    await night.send(6, NOW + 10)
    assert await night.look(GRACE_ENDS + 1) == {}
    assert night.reconciler.holds_up
    assert night.reconciler.next_look == GRACE_ENDS + 1 + module.FIRST_LOOK_S


# A request that the history does not have


async def test_within_the_time_of_grace_nothing_is_sent_again(night: Night) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    assert await night.look_on(GRACE_ENDS - 1) == []
    assert await night.state() is State.IN_DOUBT
    assert night.reconciler.holds_up
    assert len(night.history.lists) < 15


async def test_after_the_time_of_grace_later_requests_are_evidence(night: Night) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    ((record, result),) = await night.look_on(GRACE_ENDS + 60)
    assert result.state is State.PENDING
    assert night.governor.time == pytest.approx(GRACE_ENDS, abs=2)
    assert await night.state() is State.PENDING
    assert await column(night.ledger, "requeues") == 1
    (*_, last) = await attempts(night.ledger, record.key)
    assert last.action == "pending"
    assert "later requests" in str(last.detail)


async def test_without_later_ones_it_must_be_missing_twice_beside_our_others(
    night: Night,
) -> None:
    await night.own("r-1", 1, NOW - 20)
    await night.doubt()
    assert await night.look(GRACE_ENDS + 1) == {}
    assert night.reconciler.holds_up
    ((_, result),) = await night.look_on(GRACE_ENDS + 120)
    assert result.state is State.PENDING
    assert night.governor.time >= GRACE_ENDS + module.APART_S


@pytest.mark.parametrize("others", [0, 1])
async def test_a_history_that_lacks_what_it_must_have_proves_nothing(
    night: Night, others: int
) -> None:
    if others:
        await night.own("r-1", 1, NOW - 20, shown=False)
    await night.doubt()
    assert await night.look_on(GRACE_ENDS + 10 * HOUR_S) == []
    assert await night.state() is State.IN_DOUBT
    assert not night.reconciler.holds_up


@pytest.mark.parametrize("shown", [True, False])
async def test_a_lone_job_is_believed_to_be_missing_where_the_history_shows_our_last_one(
    night: Night, shown: bool
) -> None:
    await night.own("r-1", 1, NOW - 86400, shown=shown)
    await night.doubt()
    moved = await night.look_on(GRACE_ENDS + 10 * HOUR_S)
    assert [result.state for _, result in moved] == [State.PENDING] * shown


async def test_a_request_that_shows_up_after_all_is_adopted(night: Night) -> None:
    await night.doubt()
    await night.look_on(GRACE_ENDS + 10)
    assert not night.reconciler.holds_up
    night.history.add("r-9", NOW + 1)
    ((_, result),) = await night.look_on(GRACE_ENDS + HOUR_S)
    assert result.state in (State.SUBMITTED, State.COMPLETED)


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param({"request_body": None}, id="without a body"),
        pytest.param({"request_body": {"prompt": "prompt 0", "seed": 3}}, id="with more in it"),
        pytest.param({"model_created": None}, id="without a time"),
    ],
)
async def test_a_request_that_might_be_it_holds_it(night: Night, stranger: dict[str, Any]) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    night.history.add("r-9", NOW + 1, **stranger)
    assert await night.look_on(GRACE_ENDS + HOUR_S) == []
    assert await night.state() is State.IN_DOUBT


async def test_it_is_believed_but_once(night: Night) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    await night.look_on(GRACE_ENDS + 60)
    again = night.governor.time + 1
    await night.doubt(0, again)
    await night.own("r-2", 2, again + 200)
    assert await night.look_on(again + HOUR_S) == []
    assert await night.state() is State.IN_DOUBT


async def test_the_request_of_the_first_post_may_still_be_shown_after_the_second(
    night: Night,
) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    await night.look_on(GRACE_ENDS + 60)
    night.history.add("late", NOW + 1)
    await night.doubt(0, night.governor.time + 1)
    await night.look_on(night.governor.time + HOUR_S)
    assert await night.state() is State.IN_DOUBT


async def test_a_clock_that_was_set_meanwhile_sends_nothing_again(night: Night) -> None:
    # Ours was ten minutes slow when it was sent, and is right by now.
    await night.doubt(0, NOW)
    night.history.add("r-0", NOW + 595)
    await night.own("r-1", 1, NOW + 800)
    assert await night.look_on(GRACE_ENDS + HOUR_S) == []
    assert await night.state() is State.IN_DOUBT


# Clocks that are set


JUMPS_S = [
    pytest.param(jump_s, id=f"{jump_s:+.0f} s") for jump_s in (-86400.0, -290.0, 290.0, 7200.0)
]


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_however_our_clock_is_set_the_time_of_grace_is_the_servers(
    night: Night, jump_s: float
) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    night.set_clock(jump_s)
    assert await night.look_on(GRACE_ENDS + jump_s - 5) == []
    ((_, result),) = await night.look_on(GRACE_ENDS + jump_s + 60)
    assert result.state is State.PENDING


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_however_our_clock_is_set_a_request_is_looked_for_when_it_was_sent(
    night: Night, jump_s: float
) -> None:
    await night.doubt()
    night.history.add("long ago", NOW - 3000)
    night.history.add("r-9", NOW + 2)
    night.set_clock(jump_s)
    assert await night.look(NOW + jump_s + 120) == {"j0": State.SUBMITTED}
    found = await get(night.ledger)
    assert found.request_id == "r-9"
    assert found.deadline == pytest.approx(NOW + 2 + jump_s + HOUR_S, abs=2)


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_what_was_sent_at_a_time_that_the_server_never_told_is_not_sent_again(
    night: Night, jump_s: float
) -> None:
    await night.doubt()
    await sql(night.ledger, "UPDATE jobs SET server_at = NULL, server_until = NULL")
    await night.own("r-1", 1, NOW + 200)
    night.set_clock(jump_s)
    assert await night.look_on(GRACE_ENDS + jump_s + HOUR_S) == []
    assert not night.reconciler.holds_up
    assert await night.state() is State.IN_DOUBT
    held = [each for each in await attempts(night.ledger, 1) if each.action == "held"]
    assert [each.detail for each in held] == ["nothing tells when it was sent by the API's clock"]


async def test_what_was_sent_before_the_server_told_its_time_is_dated_when_it_does(
    night: Night,
) -> None:
    await night.look()
    await night.doubt()
    await sql(night.ledger, "UPDATE jobs SET server_at = NULL, server_until = NULL")
    await night.look()
    assert await column(night.ledger, "server_at") == pytest.approx(NOW, abs=2)
    await night.own("r-1", 1, NOW + 200)
    ((_, result),) = await night.look_on(GRACE_ENDS + 120)
    assert result.state is State.PENDING


async def test_a_post_that_took_as_long_as_the_computer_slept_is_waited_for_from_its_end(
    night: Night,
) -> None:
    slept_s = 8 * HOUR_S
    await night.send()
    record = await get(night.ledger)
    span = Span(NOW, NOW + slept_s)
    await night.ledger.doubt(record, Event(NOW + slept_s, detail="no answer"), span)
    await night.own("r-1", 1, NOW + slept_s + 200)
    assert await night.look(NOW + slept_s + WAIT_S - 5) == {}
    night.history.add("r-9", NOW + slept_s - 1)
    ((record, result),) = await night.look_on(NOW + slept_s + WAIT_S + 5)
    assert result.state is State.SUBMITTED


async def test_without_the_servers_time_nothing_is_taken_for_absent(night: Night) -> None:
    night.governor.server = ServerTime()
    night.history.skew_s = None
    await night.look()
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    assert await night.look_on(GRACE_ENDS + HOUR_S) == []
    night.history.add("r-9", NOW + 2)
    assert await night.look(GRACE_ENDS + 2 * HOUR_S) != {}


# A history that cannot be used


DOWN = [
    pytest.param(answer(503, {"error": "down"}), id="503"),
    pytest.param(answer(500, None, "an HTML page"), id="500"),
    pytest.param(answer(401, {"error": "INVALID_API_KEY"}), id="401"),
    pytest.param(answer(404, {"error": "not found"}), id="404"),
    pytest.param(answer(200, {"error": "odd"}), id="no page"),
    pytest.param(no_answer(), id="no answer"),
]


@pytest.mark.parametrize("trouble", DOWN)
async def test_a_history_that_is_down_holds_and_is_given_up_for_this_run(
    night: Night, trouble: Answer
) -> None:
    await night.doubt()
    night.history.troubles = [trouble] * 1000
    night.governor.time = GRACE_ENDS + HOUR_S
    for _ in range(module.UNUSABLE_LIMIT):
        assert night.reconciler.holds_up == (len(night.history.lists) > 0)
        assert await night.look(night.reconciler.next_look) == {}
    assert not night.reconciler.holds_up
    assert len(night.history.lists) == module.UNUSABLE_LIMIT
    # A run that goes on for other reasons asks now and then.
    assert await night.look_on(GRACE_ENDS + 50 * HOUR_S) == []
    assert await night.state() is State.IN_DOUBT


async def test_a_history_that_is_down_for_days_ends_no_run(night: Night) -> None:
    await night.doubt()
    night.history.troubles = [no_answer()] * 2000
    for _ in range(1500):
        await night.look(night.reconciler.next_look)
    assert await night.state() is State.IN_DOUBT


async def test_a_history_that_comes_back_is_believed(night: Night) -> None:
    await night.doubt()
    night.history.add("r-9", NOW + 1)
    night.history.troubles = [no_answer()] * 2
    ((_, result),) = await night.look_on(NOW + HOUR_S)
    assert result.state is State.SUBMITTED


async def test_half_a_history_is_none(night: Night) -> None:
    await night.doubt()
    await night.own("r-1", 1, NOW + 200)
    night.history.per_page = 1
    night.governor.time = GRACE_ENDS + 1
    page = answer(200, {"data": night.history.rows[-1:]})
    night.history.troubles = [page, answer(503)]
    assert await night.look() == {}
    assert await night.state() is State.IN_DOUBT


async def test_a_rate_limit_of_the_history_holds_and_its_page_is_asked_again(
    night: Night,
) -> None:
    await night.doubt()
    night.history.add("r-9", NOW + 1)
    night.history.troubles = [answer(429, {"error": "slow"}, retry_after="30")]
    assert await night.look() == {"j0": State.SUBMITTED}
    assert any(isinstance(each, Held) for each in night.governor.seen)
    assert [query.page for query in night.history.lists][:2] == [1, 1]


async def test_a_rate_limit_without_end_is_given_up_for_this_run(night: Night) -> None:
    await night.doubt()
    night.history.troubles = [answer(429, {"error": "slow"}, retry_after="30")] * 1000
    assert await night.look_on(NOW + 50 * HOUR_S) == []
    assert not night.reconciler.holds_up


async def test_every_question_has_its_turn_and_is_told(night: Night) -> None:
    await night.doubt()
    await night.look()
    assert len(night.governor.turns) == len(night.history.lists)
    told = [each for each in night.governor.seen if isinstance(each, Answered)]
    assert [each.call for each in told] == [CallOf.HISTORY] * len(night.history.lists)


# Pages


async def test_one_reading_serves_many_doubts(night: Night) -> None:
    for number in range(6):
        await night.doubt(number, NOW + number)
        night.history.add(f"r-{number}", NOW + number, number)
    assert len(await night.look()) == 6
    assert len(night.history.lists) <= 2


async def test_rows_on_later_pages_are_found(night: Night) -> None:
    night.history.per_page = 3
    await night.doubt()
    for n in range(20):
        night.history.add(f"stranger-{n}", NOW + 100 + n, 1)
    night.history.add("r-9", NOW + 1)
    assert await night.look(NOW + 300) == {"j0": State.SUBMITTED}


async def test_no_more_pages_are_read_than_can_matter(night: Night) -> None:
    await night.doubt()
    for n in range(1000):
        night.history.add(f"stranger-{n}", NOW - n * 20, 1)
    await night.look()
    assert len(night.history.lists) == 1


async def test_a_history_that_does_not_turn_its_pages_proves_nothing(night: Night) -> None:
    night.history.turns_pages = False
    night.history.per_page = 20
    await night.doubt()
    night.history.add("r-9", NOW + 1)
    for n in range(30):
        night.history.add(f"stranger-{n}", NOW + 100 + n, 1)
    await night.own("r-1", 1, NOW + 200)
    assert await night.look_on(GRACE_ENDS + HOUR_S) == []
    assert await night.state() is State.IN_DOUBT
    assert max(query.page for query in night.history.lists) <= 4


async def test_what_a_history_without_pages_shows_is_adopted_all_the_same(night: Night) -> None:
    night.history.turns_pages = False
    await night.doubt()
    night.history.add("r-9", NOW + 1)
    assert await night.look() == {"j0": State.SUBMITTED}


async def test_rows_that_come_while_pages_are_turned_do_not_end_the_reading(night: Night) -> None:
    night.history.per_page = 2
    await night.doubt()
    for n in range(4):
        night.history.add(f"stranger-{n}", NOW + 100 + n, 1)
    night.history.add("r-9", NOW + 1)

    async def push() -> None:
        # Two more come before the second page is asked for: it repeats the first.
        if len(night.history.lists) == 2:
            night.history.add("new-1", NOW + 200, 1)
            night.history.add("new-2", NOW + 201, 1)

    night.history.when_asked = push
    assert await night.look(NOW + 300) == {"j0": State.SUBMITTED}


async def test_each_model_is_asked_for_by_itself(night: Night) -> None:
    await night.doubt(0)
    await night.doubt(8)
    night.history.add("r-8", NOW + 1, 8, model_name="imagen-4")
    night.history.add("r-x", NOW + 1, 0, model_name="imagen-4")
    assert await night.look() == {"j8": State.SUBMITTED}
    assert {query.model for query in night.history.lists} == {"imagen", "imagen-4"}


async def test_a_job_from_before_all_that_the_history_lists_is_not_taken_for_absent(
    night: Night,
) -> None:
    await night.doubt()
    long_after = NOW + 40 * 86400
    await night.own("r-1", 1, long_after - 10)
    assert await night.look(long_after) == {}
    assert await night.state() is State.IN_DOUBT
    asked = night.history.lists[-1]
    span = datetime.fromisoformat(asked.to_date) - datetime.fromisoformat(asked.from_date)
    assert span.days < 31


async def test_a_job_that_is_held_for_long_does_not_hold_up_a_recent_one(night: Night) -> None:
    await night.doubt(1)
    long_after = NOW + 40 * 86400
    await night.doubt(0, long_after)
    await night.own("r-2", 2, long_after + 200)
    moved = await night.look(long_after + TIMEOUT_S + WAIT_S + 1)
    assert moved == {"j0": State.PENDING}


# Rules


async def test_hold_asks_nothing_and_moves_nothing(night: Night) -> None:
    night = night.under(on_doubt="hold", on_expired="hold")
    await night.doubt()
    await night.expire(number=1)
    night.history.add("r-9", NOW + 1)
    assert await night.look(GRACE_ENDS + HOUR_S) == {}
    assert night.reconciler.next_look is None
    assert night.history.lists == []
    assert night.history.singles == []


async def test_resubmit_takes_what_the_history_has(night: Night) -> None:
    night = night.under(on_doubt="resubmit")
    await night.doubt()
    night.history.add("r-9", NOW + 1)
    assert await night.look() == {"j0": State.SUBMITTED}


@pytest.mark.parametrize("troubles", [[], [no_answer()] * 100])
async def test_resubmit_sends_again_at_once_but_not_without_end(
    night: Night, troubles: list[Answer]
) -> None:
    night = night.under(on_doubt="resubmit")
    night.history.troubles = troubles
    for n in range(module.RESUBMIT_LIMIT):
        await night.doubt(0, NOW + n)
        assert await night.look(NOW + n) == {"j0": State.PENDING}
    await night.doubt(0, NOW + 10)
    assert await night.look(NOW + 10) == {}
    assert await night.state() is State.IN_DOUBT


# Expired jobs


async def test_a_long_pause_is_made_up_by_the_history_without_a_poll(night: Night) -> None:
    for number in range(4):
        await night.expire(f"r-{number}", number, NOW + number)
        for n in range(2):
            url = f"{FILE}?{number}-{n}"
            done = {"model_status": "COMPLETED", "generation_url": url}
            night.history.add(f"r-{number}", NOW + number, number, **done)
    moved = await night.look(NOW + 8 * HOUR_S)
    assert moved == {f"j{number}": State.COMPLETED for number in range(4)}
    assert len(night.history.lists) <= 2
    for number in range(4):
        record = await get(night.ledger, f"j{number}")
        found = await night.ledger.completed(record.key)
        assert found is not None
        assert len(json.loads(found[1])["output"]) == 2
    assert await sql(night.ledger, "SELECT sum(cost) FROM jobs") == [(pytest.approx(0.16),)]


async def test_an_expired_job_of_many_pages_ago_has_all_its_files(night: Night) -> None:
    night.history.per_page = 3
    await night.expire()
    for n in range(4):
        done = {"model_status": "COMPLETED", "generation_url": f"{FILE}?{n}"}
        night.history.add("r-0", NOW, **done)
    for n in range(10):
        night.history.add(f"stranger-{n}", NOW + 100 + n, 1)
    await night.look(NOW + 8 * HOUR_S)
    found = await night.ledger.completed((await get(night.ledger)).key)
    assert found is not None
    assert len(json.loads(found[1])["output"]) == 4


async def test_a_list_that_does_not_know_an_expired_job_is_not_taken_for_all_its_files(
    night: Night,
) -> None:
    await night.expire()
    done = {"model_status": "COMPLETED", "generation_url": FILE}
    night.history.add("r-0", NOW, **done)
    # Its list shows other requests and not this one; by its id there is one row.
    night.history.rows[-1]["model_name"] = "of another name"
    for _ in range(4):
        night.governor.time += HOUR_S
        await night.look()
    assert await night.state() is State.EXPIRED


async def test_a_clock_that_is_behind_does_not_bound_the_days_of_the_list(night: Night) -> None:
    await night.expire()
    night.history.skew_s = None
    night.history.add("r-0", NOW + 2 * 86400.0, model_status="COMPLETED", generation_url=FILE)
    assert await night.look(NOW + HOUR_S) == {"j0": State.COMPLETED}
    created = datetime.fromtimestamp(NOW + 2 * 86400.0, UTC).date()
    assert night.history.lists[-1].to_date >= created.isoformat()


async def test_an_expired_job_that_failed_is_told_so(night: Night) -> None:
    await night.expire()
    night.history.add("r-0", NOW, model_status="FAILED", error="CUDA out of memory")
    assert await night.look(NOW + 8 * HOUR_S) == {"j0": State.FAILED}


@pytest.mark.parametrize(
    "row",
    [
        None,
        {"model_status": "PENDING"},
        {"model_status": "COMPLETED", "generation_url": None},
        {"model_status": "odd"},
    ],
)
async def test_what_the_history_cannot_bring_back_stays_expired_and_is_asked_once_a_run(
    night: Night, row: dict[str, Any] | None
) -> None:
    await night.expire()
    if row is not None:
        night.history.add("r-0", NOW, **row)
    assert await night.look(NOW + 8 * HOUR_S) == {}
    assert await night.look(NOW + 9 * HOUR_S) == {}
    assert await night.state() is State.EXPIRED
    assert len(night.history.singles) == 1
    assert not night.reconciler.holds_up
    assert await night.under(on_expired="resubmit").look() == {"j0": State.PENDING}


async def test_the_row_of_another_request_is_not_taken_for_the_answer(night: Night) -> None:
    await night.expire()
    night.history.add("other", NOW, model_status="COMPLETED", generation_url=FILE)
    night.history.troubles = [answer(200, night.history.rows[0])]
    assert await night.look(NOW + 8 * HOUR_S) == {}


async def test_a_file_that_cannot_live_any_more_is_not_asked_for(night: Night) -> None:
    await night.expire()
    assert await night.look(NOW + 8 * 86400) == {}
    assert night.history.singles == []


@pytest.mark.parametrize("trouble", [p for p in DOWN if p.id != "404" and p.id != "no page"])
@pytest.mark.parametrize("on_expired", ["recover", "resubmit"])
async def test_while_the_history_is_down_one_expired_job_asks_for_all(
    night: Night, trouble: Answer, on_expired: str
) -> None:
    night = night.under(on_expired=on_expired)
    for number in range(5):
        await night.expire(f"r-{number}", number)
    night.governor.time = NOW + 8 * HOUR_S
    night.history.troubles = [trouble] * 100
    assert await night.look() == {}
    assert len(night.history.singles) == 1
    assert night.reconciler.holds_up
    moved = await night.look_on(NOW + 9 * HOUR_S)
    assert not night.reconciler.holds_up
    assert len(night.history.singles) == module.UNUSABLE_LIMIT
    # Only who says so pays again, and only when the history was tried in vain.
    assert len(moved) == (5 if on_expired == "resubmit" else 0)


async def test_expired_jobs_are_brought_back_when_the_history_is(night: Night) -> None:
    await night.expire()
    night.history.add("r-0", NOW, model_status="COMPLETED", generation_url=FILE)
    night.history.troubles = [no_answer()]
    night.governor.time = NOW + 8 * HOUR_S
    ((_, result),) = await night.look_on(NOW + 9 * HOUR_S)
    assert result.state is State.COMPLETED


async def test_a_job_that_is_free_again_is_told_before_the_look_goes_on(night: Night) -> None:
    # It may be sent anew while others are still asked about: told later, its new POST is forgotten.
    await night.doubt()
    await night.expire("r-1", 1)
    night.history.add("r-1", NOW, 1)
    await night.own("r-2", 2, NOW + 200)
    asked_before: list[list[str]] = []

    async def report(record: Record, result: StepResult) -> None:
        asked_before.append([*night.history.singles])

    night.governor.time = NOW + 2 * HOUR_S
    await night.reconciler.look(report)
    assert asked_before == [[]]
    assert night.history.singles == ["r-1"]


async def test_a_job_that_is_in_doubt_again_within_the_look_is_a_new_case(night: Night) -> None:
    # No later request is shown: it must be found missing twice, and what was seen before does not count.
    await night.own("r-1", 1, NOW - 20)
    await night.send(0, NOW)
    await night.ledger.doubt_interrupted(NOW + 1)
    again: list[float] = []
    moved: list[float] = []

    async def send_again(record: Record, result: StepResult) -> None:
        again.append(night.governor.time)
        await night.doubt(0, night.governor.time)

    async def report(record: Record, result: StepResult) -> None:
        moved.append(night.governor.time)

    while not again:
        night.governor.time = max(night.governor.time, night.reconciler.next_look or 0.0)
        await night.reconciler.look(send_again)
    night.governor.time = again[0] + TIMEOUT_S + WAIT_S + 1
    await night.reconciler.look(report)
    assert moved == []
    night.governor.time += module.APART_S + 1
    await night.reconciler.look(report)
    assert moved == [night.governor.time]


@pytest.mark.parametrize(
    ("on_doubt", "moved"), [("reconcile", {}), ("resubmit", {"j0": State.SUBMITTED})]
)
async def test_of_more_requests_than_jobs_none_is_taken_for_a_job_that_nobody_knows_the_time_of(
    night: Night, on_doubt: str, moved: dict[str, State]
) -> None:
    night.governor.server = ServerTime()
    await night.send(0, NOW)
    await night.ledger.doubt_interrupted(NOW + 1)
    night.history.skew_s = None
    night.history.add("r-1", NOW + 1)
    night.history.add("r-2", NOW + 300)
    # Who would pay again rather takes one that is there.
    assert await night.under(on_doubt=on_doubt).look() == moved


async def test_one_of_several_files_is_not_taken_for_all_of_them(night: Night) -> None:
    await night.expire()
    for n in range(3):
        done = {"model_status": "COMPLETED", "generation_url": f"{FILE}?{n}"}
        night.history.add("r-0", NOW, **done)
    night.governor.time = NOW + 8 * HOUR_S
    # By id it is told, the list is down.
    night.history.troubles = [answer(200, night.history.rows[0]), answer(503)]
    assert await night.look() == {}
    assert await night.state() is State.EXPIRED
    ((record, _),) = await night.look_on(NOW + 9 * HOUR_S)
    found = await night.ledger.completed(record.key)
    assert found is not None
    assert len(json.loads(found[1])["output"]) == 3


async def test_an_expired_job_that_was_sent_again_may_expire_again_and_is_then_held(
    night: Night,
) -> None:
    night = night.under(on_expired="resubmit")
    await night.expire()
    assert await night.look(NOW + 8 * HOUR_S) == {"j0": State.PENDING}
    await night.expire("r-1", 0, NOW + 8 * HOUR_S)
    assert await night.look(NOW + 10 * HOUR_S) == {}


async def test_that_a_run_died_at_a_job_does_not_use_up_the_one_time_it_is_sent_again(
    night: Night,
) -> None:
    await night.own("r-1", 1, NOW + 200)
    await night.send(0, NOW)
    await night.ledger.doubt_interrupted(NOW + 1)
    ((_, died),) = await night.look_on(GRACE_ENDS + 120)
    assert died.state is State.PENDING

    await night.doubt(0, NOW + 1000)
    await night.own("r-2", 2, NOW + 1200)
    ((_, unanswered),) = await night.look_on(GRACE_ENDS + 1060)

    assert unanswered.state is State.PENDING
    assert await column(night.ledger, "requeues") == 1


async def test_files_of_one_request_that_stand_on_two_pages_all_come_back(night: Night) -> None:
    await night.expire()
    night.history.per_page = 2
    # By a clock that was set since, the request is older than its job.
    made = {"model_status": "COMPLETED", "credits_deduction": 0.04}
    for n in range(3):
        night.history.add("r-0", NOW - 120, 0, generation_url=f"https://media/{n}.png", **made)

    await night.look(NOW + HOUR_S + 60)

    found = await night.ledger.completed((await get(night.ledger, "j0")).key)
    assert found is not None
    assert sorted(json.loads(found[1])["output"]) == [f"https://media/{n}.png" for n in range(3)]


async def test_rows_that_land_while_pages_are_turned_hide_no_file_of_a_request(
    night: Night,
) -> None:
    await night.expire()
    night.history.per_page = 2
    night.history.add("stranger-1", NOW + 100, 1)
    made = {"model_status": "COMPLETED", "credits_deduction": 0.04}
    for n in range(2):
        night.history.add("r-0", NOW, 0, generation_url=f"https://media/{n}.png", **made)

    async def land() -> None:
        # The second page begins with a row that is new and newer, and the last file is on the third.
        if len(night.history.lists) == 2:
            night.history.add("stranger-2", NOW + 50, 1)
            night.history.add("stranger-3", NOW + 40, 1)

    night.history.when_asked = land
    await night.look(NOW + HOUR_S + 60)

    found = await night.ledger.completed((await get(night.ledger, "j0")).key)
    assert found is not None
    assert sorted(json.loads(found[1])["output"]) == [f"https://media/{n}.png" for n in range(2)]


async def test_what_has_ended_there_is_not_paid_anew_because_its_list_cannot_be_read(
    night: Night,
) -> None:
    night = night.under(on_expired="resubmit")
    await night.expire()
    night.history.add(
        "r-0", NOW + 1, 0, model_status="COMPLETED", generation_url="https://media/0.png"
    )

    async def no_list(query: HistoryQuery) -> Answer:
        return answer(503, {"error": "down"})

    night.history.history = no_list  # type: ignore[method-assign]
    for later_s in range(60, 3600, 300):
        await night.look(NOW + HOUR_S + later_s)

    assert await night.state() is State.EXPIRED
