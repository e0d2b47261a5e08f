"""Each safeguard broken on purpose: the proof that the simulation would notice.

A mutation is a patch of the real code. It is caught when some night ends with a violation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from runner.archive import Archive
from runner.clock import Clock, ServerTime
from runner.engine import Engine
from runner.engine.beginning import SURELY_OVER_S, Beginning
from runner.engine.queues import Downloads, Pending
from runner.engine.stopped import StoppedModels
from runner.governor import Governor
from runner.job import Answer, StepResult
from runner.ledger import Ledger, Record, Span, queries
from runner.ledger.connection import GroupCommit, Write
from runner.policy import history
from runner.policy.history import Doubt, Row
from runner.policy.polling import PollSchedule
from runner.policy.verdict import Meaning, Verdict, judge_submit
from runner.reconciler import Reconciler
from runner.reconciler.expired import Expired
from runner.submitter import Submitter

from .life import SIGNAL, NightClock
from .night import Told, play
from .weather import RETENTION_S

NIGHTS = 400


@dataclass(frozen=True, slots=True)
class Mutation:
    """A safeguard, and the patches that break it.

    `first`: the seed to begin with, for what few nights notice.
    """

    broken: str
    patches: Callable[[], list[AbstractContextManager[Any]]]
    first: int = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The code is broken within this block."""
        with ExitStack() as stack:
            for each in self.patches():
                stack.enter_context(each)
            yield


def hunt(mutation: Mutation, nights: int = NIGHTS) -> Told | None:
    """Plays nights with the broken code until one shows it."""
    with mutation.applied():
        for seed in range(mutation.first, mutation.first + nights):
            told = play(seed)
            if told.violations:
                return told
    return None


async def _posts_first(self: Any, pending: Record) -> StepResult:
    answer = await self._api.submit(pending.model, pending.params)
    now = self._governor.now()
    if not await self._ledger.begin_submit(pending, now, now + self._rules.retention_s):
        return StepResult(None)
    record = replace(pending, state="submitting", posts=pending.posts + 1)  # type: ignore[arg-type]
    return await self._conclude(record, answer, judge_submit(answer))  # type: ignore[no-any-return]


def _judging(changed: Callable[[Answer, Verdict], Meaning | None]) -> Callable[[Answer], Verdict]:
    def judge(answer: Answer) -> Verdict:
        verdict = judge_submit(answer)
        meaning = changed(answer, verdict)
        return verdict if meaning is None else Verdict(meaning, verdict.reason)

    return judge


def _never_left(answer: Answer, verdict: Verdict) -> Meaning | None:
    return Meaning.NEVER_LEFT if verdict.meaning is Meaning.IN_DOUBT else None


def _refused_504(answer: Answer, verdict: Verdict) -> Meaning | None:
    return Meaning.REFUSED if answer.status == 504 else None


async def _nothing_known(*_: Any) -> set[Any]:
    return set()


async def _nothing_looked_at(*_: Any) -> list[Any]:
    return []


async def _yes(*_: Any) -> bool:
    return True


async def _none_interrupted(*_: Any) -> int:
    return 0


def _at_once(self: Any, write: Write) -> asyncio.Future[list[int]]:
    """Says that a write is durable while it still waits."""
    self._gathered.add(write)
    told: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    told.set_result([1] * len(write.statements))
    return told


_real_apply = Write.apply
_STATE = re.compile(r"\s+AND state = (:before|'[a-z_]+')")


def _applied_anyway(self: Write, database: Any) -> list[int]:
    first, *others = self.statements
    changed = (_STATE.sub("", first[0]), first[1])
    return _real_apply(Write([changed, *others]), database)


def _again_without_deadline(
    self: Any, key: int, flight: Any, now: float, wait_s: float, guess_s: float = float("inf")
) -> None:
    flight.deadline = float("inf")
    _real_again(self, key, flight, now, wait_s, guess_s)


_real_again = PollSchedule._again
_real_why_not = Reconciler._why_not
_real_dated = Reconciler._dated
_real_view = Archive.view
_real_ask = Archive._ask


async def _no_siblings(
    self: Any, model: str, since: float, until_passed: Any = (), newest: float = 0.0
) -> Any:
    view = await _real_view(self, model, since, until_passed, newest)
    if until_passed:
        view.rows[:] = {row.request_id: row for row in view.rows}.values()
    return view


async def _down_is_empty(self: Any, request: Any) -> Answer:
    answer = await _real_ask(self, request)
    return answer if answer.status == 200 else Answer(200, {"data": []})


def _timeless(row: Row, *_: Any) -> bool:
    return row.created is not None


_real_sweep = history._sweep


def _together(doubts: Any, rows: Any) -> list[Any]:
    dated = sorted((row for row in rows if row.created is not None), key=history._age)
    return [(sorted(doubts, key=lambda doubt: (doubt.since, doubt.key)), dated)]


def _sweep_of_all_times(doubts: Any, rows: Any, *_: float) -> dict[int, Row]:
    return _real_sweep(doubts, rows, float("inf"))


def _skewed(self: Any, record: Record) -> tuple[float, float]:
    since = record.submitted_at or 0.0
    return since, since + self._rules.timeout_s


def _undated(self: Any, record: Record) -> tuple[float, float]:
    """Our own clock's word for the time of the intent, with the difference of now."""
    since = self._server_now(record.submitted_at or 0.0)
    return since, since + self._rules.timeout_s


def _by_our_clock(self: Any, record: Record, doubt: Doubt, view: Any, known: set[str]) -> Any:
    """Grace from when we sent it until now, both by our own clock."""
    sent_at = record.submitted_at or 0.0
    if self.governor.now() < sent_at + self._rules.timeout_s + self._rules.wait_s:
        return "its row may still come"
    return _without_grace(self, record, doubt, view, known)


def _without_grace(self: Any, record: Record, doubt: Doubt, view: Any, known: set[str]) -> Any:
    taken_at, view.taken_at = view.taken_at, float("inf")
    why = _real_why_not(self, record, doubt, view, known)
    view.taken_at = taken_at
    return why


def _guessed(self: Any, record: Record) -> Span:
    """What nobody knows the time of is believed to be as our own clock says."""
    return _real_dated(self, record) or Span(*_undated(self, record))


def _ended_at_once(self: Any, record: Record) -> Any:
    """A POST is over after its time-out, whether the computer slept or its run died over it."""
    if record.server_at is None:
        return None
    return Span(record.server_at, record.server_at + self._rules.timeout_s)


def _as_the_wall_says(self: Any) -> float:
    return self.wall()  # type: ignore[no-any-return]


def _over_by_our_clock(self: Any, record: Record, now: float) -> bool:
    return now > (record.deadline or now) + SURELY_OVER_S


async def _not_heard(*_: Any) -> None:
    pass


def _heard_anyhow(self: Any, date: float | None, at: float, seconds: float) -> None:
    """However long an answer was under way, it is taken for the time of now."""
    if date is not None:
        self._ahead_s = date - at, date - at + 1.0


_real_drain = Engine.drain


def _deaf(self: Engine, reason: str) -> None:
    if reason != SIGNAL:
        _real_drain(self, reason)


def _ignored(*_: Any) -> None:
    pass


async def _unpolled(self: Any, record: Any, result: Any) -> None:
    self._moved(record, record.state, result)
    self._pending.look_again()


async def _gives_twice(self: Any, stopped_models: Any) -> Record | None:
    while (record := await self._take()) is not None and record.model in stopped_models:
        pass
    return record  # type: ignore[no-any-return]


async def _no_scan(self: Any) -> None:
    self._scanned = True


def _query(name: str, old: str, new: str) -> Callable[[], list[AbstractContextManager[Any]]]:
    query = getattr(queries, name)
    assert old in query, f"{name} has no {old}"
    return lambda: [patch.object(queries, name, query.replace(old, new))]


def _set(target: str, value: Any) -> Callable[[], list[AbstractContextManager[Any]]]:
    return lambda: [patch(target, value)]


def _method(owner: type, name: str, value: Any) -> Callable[[], list[AbstractContextManager[Any]]]:
    return lambda: [patch.object(owner, name, value)]


def _all(
    *parts: Callable[[], list[AbstractContextManager[Any]]],
) -> Callable[[], list[AbstractContextManager[Any]]]:
    return lambda: [each for part in parts for each in part()]


MUTATIONS = (
    Mutation("the intent is committed after the POST", _method(Submitter, "submit", _posts_first)),
    Mutation(
        "the request id is not committed",
        _query("ACCEPT", "request_id = :request_id", "request_id = NULL"),
    ),
    Mutation(
        "no answer means that it never left",
        _set("runner.submitter.judge_submit", _judging(_never_left)),
    ),
    Mutation("a 504 means refused", _set("runner.submitter.judge_submit", _judging(_refused_504))),
    Mutation(
        "what was being sent at the death is sent again",
        _query("DOUBT_INTERRUPTED", "'in_doubt'", "'pending'"),
    ),
    Mutation(
        "what was being sent at the death is forgotten",
        _method(Ledger, "doubt_interrupted", _none_interrupted),
    ),
    Mutation("known request ids are adopted", _method(Ledger, "known_ids", _nothing_known)),
    Mutation(
        "requests of bodies being sent are adopted",
        _method(Ledger, "submitting_bodies", _nothing_known),
    ),
    Mutation(
        "matching ignores time",
        _all(
            _set("runner.policy.history._is_in_time", _timeless),
            _set("runner.policy.history._sweep", _sweep_of_all_times),
            _set("runner.policy.history._apart", _together),
        ),
    ),
    Mutation("matching ignores how far clocks are apart", _method(Reconciler, "_span", _skewed)),
    Mutation(
        "matching ignores the server's time that is kept with the intent",
        _method(Reconciler, "_span", _undated),
    ),
    Mutation(
        "there is no time of grace", _method(Reconciler, "_why_not", _without_grace), first=50
    ),
    Mutation(
        "the time of grace is measured by our own clock",
        _method(Reconciler, "_why_not", _by_our_clock),
        first=60,
    ),
    Mutation(
        "a jump of our clock is believed within a run", _method(Clock, "now", _as_the_wall_says)
    ),
    Mutation(
        "a clock that stands still in sleep is believed",
        _method(NightClock, "steady", NightClock.monotonic),
    ),
    Mutation(
        "what nobody knows the time of is taken for absent",
        _all(
            _method(Reconciler, "_dated", _guessed),
            _method(Beginning, "hear", _not_heard),
        ),
    ),
    Mutation(
        "a POST is never longer than its time-out",
        _method(Reconciler, "_dated", _ended_at_once),
        first=50,
    ),
    Mutation(
        "nothing is heard before the first POST",
        _method(Beginning, "hear", _not_heard),
        first=1370,
    ),
    Mutation(
        "an answer from before a sleep tells the time",
        _method(ServerTime, "hear", _heard_anyhow),
        first=2100,
    ),
    Mutation(
        "a start tells by our own clock whose hour has passed",
        _method(Beginning, "_is_surely_over", _over_by_our_clock),
    ),
    Mutation(
        "hours are not told anew by the clock of a new run",
        _method(Ledger, "retime", _nothing_looked_at),
        first=90,
    ),
    Mutation(
        "what was put off waits for a time of another clock",
        _method(Ledger, "forget_put_off", _nothing_looked_at),
        first=100,
    ),
    Mutation(
        "an empty history is believed at once",
        _all(
            _method(Reconciler, "_is_reliable", _yes),
            _method(Reconciler, "_apart_s", lambda *_: 0.0),
        ),
    ),
    # Either of the two is enough.
    Mutation(
        "a history that is down is an empty one, and an empty one is relied on",
        _all(
            _method(Archive, "_ask", _down_is_empty),
            _method(Reconciler, "_is_reliable", _yes),
        ),
    ),
    Mutation(
        "a denying history is believed for ever",
        _set("runner.reconciler.reconciler.REQUEUE_LIMIT", 99),
    ),
    Mutation(
        "a 404 inside the hour is believed at once", _set("runner.poller.poller.NOT_FOUND_LIMIT", 1)
    ),
    Mutation(
        "a start takes what is in flight for expired",
        _set("runner.engine.beginning.SURELY_OVER_S", -RETENTION_S),
    ),
    Mutation("expired jobs are never recovered", _method(Expired, "look", _nothing_looked_at)),
    Mutation("only one of several outputs is recovered", _method(Archive, "view", _no_siblings)),
    Mutation(
        "polls ignore deadlines", _method(PollSchedule, "_again", _again_without_deadline), first=60
    ),
    # Either of the two is enough.
    Mutation(
        "a job is given out twice, and transitions do not compare the state",
        _all(_method(Pending, "next", _gives_twice), _method(Write, "apply", _applied_anyway)),
    ),
    Mutation(
        "a job is given out while it is being sent",
        _method(Pending, "next", _gives_twice),
        first=90,
    ),
    Mutation(
        "what comes back after its model was stopped is forgotten",
        _method(StoppedModels, "stop_again", _nothing_looked_at),
    ),
    Mutation(
        "what comes into doubt during a look is not looked at",
        lambda: [
            patch.object(Engine, "_unlooked", property(lambda _: False, _ignored), create=True)
        ],
        first=60,
    ),
    Mutation("a group is acknowledged before its commit", _method(GroupCommit, "commit", _at_once)),
    Mutation("a 429 holds nothing", _method(Governor, "rate_limited", lambda self, _: self.now())),
    Mutation("the rate is not counted", _set("runner.policy.pace.Pace.take", lambda *_: None)),
    Mutation("a signal does not stop the sending", _method(Engine, "drain", _deaf)),
    Mutation("cost is counted twice", _query("COMPLETE", "+ :cost", "+ 2 * :cost")),
    Mutation(
        "what is in doubt is not reserved in the budget",
        _set("runner.gate.OPEN_STATES", frozenset({"submitting", "submitted"})),
    ),
    Mutation(
        "a block is called a failure",
        _set("runner.policy.verdict.judge_failure", lambda _: Meaning.FAILED),
    ),
    Mutation(
        "files do not get their names", _set("runner.downloader.put_in_place", lambda *_: None)
    ),
    Mutation("completed jobs of a dead run are forgotten", _method(Downloads, "_scan", _no_scan)),
    Mutation("an adopted job is not polled", _method(Engine, "_resolved", _unpolled)),
)


def row_of(number: int) -> tuple[str, bool]:
    """A mutation's row of the table, and whether it was caught."""
    mutation = MUTATIONS[number]
    told = hunt(mutation)
    if told is None:
        return f"| {mutation.broken} | > {NIGHTS} | **nothing** |", False
    how = told.violations[0].split("; the server")[0][:110]
    return f"| {mutation.broken} | {told.seed + 1 - mutation.first} | {how} |", True
