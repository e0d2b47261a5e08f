"""What must be true after each life, and after the night: ledger, server and disk tell one story."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.ledger.records import compact
from runner.policy.history import NEARBY_S
from runner.reconciler import REQUEUE_LIMIT

from .rows import Row, rows_of
from .server import EPOCH, Request
from .weather import RETENTION_S, TIMEOUT_S

if TYPE_CHECKING:
    from .life import Lived
    from .night import Night

# Turns are counted when they are granted; a commit lies between that and the request.
SHORT_MINUTE_S = 59.0
# Our clocks differ by so much from one life to the next.
DRIFT_S = 10.0
# Found out so long before its hour ends, a result can be collected.
AMPLE_S = 45.0
UNFINISHED = ("pending", "submitting", "submitted", "completed")


def of_a_life(night: Night, lived: Lived) -> list[str]:
    """What a life must not leave behind, however it ended."""
    rows = rows_of(night)
    return [
        *_pace(lived),
        *_rest(lived),
        *_unfinished(night, lived, rows),
        *_unasked(night, lived, rows),
        *_files(night, rows),
        *_ownership(night, rows),
    ]


def of_the_night(night: Night) -> list[str]:
    """What must be true when all is calm and the last run has ended."""
    rows = rows_of(night)
    night.told.states = dict(Counter(row.state for row in rows))
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.model, row.body].append(row)
    accepted: dict[tuple[str, str], list[Request]] = defaultdict(list)
    for request in night.server.own():
        accepted[request.model, compact(request.body)].append(request)
    found = list(_purse(night))
    if night.disk.given_twice:
        found.append(f"jobs on their way were to be sent {night.disk.given_twice} times")
    for group, jobs in groups.items():
        found += _paid_once(night, jobs, accepted[group])
    for row in rows:
        found += [*_story(night, row), *_outcome(night, row)]
    return found


def _pace(lived: Lived) -> Iterator[str]:
    """Nothing leaves during a hold, and never more in a minute than was allowed."""
    yield from lived.line.overruns
    is_slow = lived.line.server.weather.disk == "slow"
    rpm = None if is_slow else lived.life.rpm
    for main in (True, False):
        times = [sent.at for sent in lived.line.sent if sent.main is main]
        if rpm is not None:
            for first, last in zip(times, times[rpm:], strict=False):
                if last - first < SHORT_MINUTE_S:
                    yield f"{rpm + 1} requests in {last - first:.1f} s from {first:.1f} at {rpm} rpm"
                    break


def _rest(lived: Lived) -> Iterator[str]:
    """A run that was told to end sends no more new jobs."""
    if lived.signalled_at is None:
        return
    late = lived.signalled_at + lived.line.grace_s + sum(long_s for _, long_s in lived.life.sleeps)
    for sent in lived.line.sent:
        if sent.kind == "submit" and sent.at > late:
            yield f"a job was sent at {sent.at:.1f}, after the signal at {late:.1f}"
            break


def _files(night: Night, rows: list[Row]) -> Iterator[str]:
    """What is said to be saved is on disk, whole, and of this very request."""
    for row in rows:
        if row.state != "saved":
            continue
        request = night.server.requests.get(row.request_id or "")
        if request is None or len(row.files) != len(request.urls):
            yield f"{row.id} is saved with {len(row.files)} files; the server made {request}"
        for path in row.files:
            file = night.folder / path
            if not file.exists():
                if file.name not in night.lost_files:
                    yield f"{row.id} is saved and {path} is not there"
            elif row.request_id is None or f"/{row.request_id}/".encode() not in file.read_bytes():
                yield f"{row.id} is {row.request_id}, and {path} holds another request's result"


def _ownership(night: Night, rows: list[Row]) -> Iterator[str]:
    """Every id in the ledger is a request of ours, of this job's body, and of no other job."""
    owners: dict[str, str] = {}
    for row in rows:
        for request_id in row.ids:
            request = night.server.requests.get(request_id)
            if request is None or request.stranger:
                yield f"{row.id} has {request_id}, which is not ours"
            elif (request.model, compact(request.body)) != (row.model, row.body):
                yield f"{row.id} has {request_id}, which is of another body"
            if owners.setdefault(request_id, row.id) != row.id:
                yield f"{request_id} belongs to {owners[request_id]} and {row.id}"


def _purse(night: Night) -> Iterator[str]:
    """No life spends or sends more than it was told."""
    for number, lived in enumerate(night.lived):
        sent = [request for request in night.server.own() if request.life == number]
        if lived.life.limit is not None and len(sent) > lived.life.limit:
            yield f"life {number} had {len(sent)} accepted, with a limit of {lived.life.limit}"
        spent, budget = sum(request.cost for request in sent), lived.life.budget
        # What was paid for a request that the history denies is counted nowhere: see docs/guarantees.md.
        denied = night.weather.history.hides or night.weather.history.denies
        if budget is not None and not denied and spent > budget + 1e-6:
            yield f"life {number} spent ${spent:.2f}, with a budget of ${budget:.2f}"


def _unfinished(night: Night, lived: Lived, rows: list[Row]) -> Iterator[str]:
    """A run that ends of itself leaves nothing to do, and a calm one ends of itself."""
    if lived.ending is None or lived.killed:
        return
    if not lived.ending.stopped:
        for row in rows:
            if row.state in UNFINISHED:
                yield f"{row.id} is left {row.state} by a run that says that all is settled"
    elif lived.line.server.calm and not any(_is_gone_untold(night, row) for row in rows):
        yield f"the calm run stopped early: {lived.ending.stopped}"


def _is_gone_untold(night: Night, row: Row) -> bool:
    """Whether a job's files are gone and nobody can tell that their week is over: clocks were set back."""
    request = night.server.requests.get(row.request_id or "")
    is_gone = row.state == "completed" and request is not None and not night.server.keeps(request)
    return is_gone and not night.weather.dated


def _unasked(night: Night, lived: Lived, rows: list[Row]) -> Iterator[str]:
    """A run does not end before a sound history was asked for what expired in it."""
    wire, history = night.weather.wire, night.weather.history
    is_sound = history.tells and not (history.down or history.blind or wire.lost or wire.never_left)
    is_own_end = lived.ending is not None and not lived.killed and not lived.ending.stopped
    if not is_sound or not is_own_end or lived.life.on_expired != "recover":
        return
    for row in rows:
        request = night.server.requests.get(row.request_id or "")
        if row.state != "expired" or request is None or request.outcome != "COMPLETED":
            continue
        expired_at = max(at for at, action, *_ in row.attempts if action == "expired")
        is_in_this_life = lived.began < expired_at - DRIFT_S
        is_kept = night.server.keeps(request)
        if (
            is_kept
            and is_in_this_life
            and max(request.done_at, request.row_at) < expired_at - DRIFT_S
        ):
            yield f"{row.id} is left expired, and the history was not asked for {request}"


def _told_again(night: Night, row: Row) -> int:
    """How often a person or an option had the job sent again."""
    lives = [lived.life for lived in night.lived]
    told = any("resubmit" in (life.on_doubt, life.on_expired) for life in lives)
    return row.times("retry") + told * row.times("sent again although")


def _paid_once(night: Night, jobs: list[Row], accepted: list[Request]) -> Iterator[str]:
    """One accepted POST a job, and every one of them known, where the history tells the truth."""
    history = night.weather.history
    again = sum(_told_again(night, row) for row in jobs)
    # A history that denies what it accepted is believed once, and once more after each death.
    misled = 0
    if history.hides or history.denies:
        misled = sum(
            REQUEUE_LIMIT * (1 + row.times("retry")) + row.times("the run ended between")
            for row in jobs
        )
    names = ", ".join(row.id for row in jobs)
    if len(accepted) > len(jobs) + again + misled:
        yield f"{names}: paid {len(accepted)} times ({', '.join(r.id for r in accepted)})"
    known = set().union(*(row.ids for row in jobs))
    lost = [request.id for request in accepted if request.id not in known]
    doubtful = sum(row.state == "in_doubt" for row in jobs)
    # Of a request that nobody knows the time of, a sound history proves nothing.
    untold = sum(row.state == "in_doubt" and _is_untold(night, row) for row in jobs)
    allowed = again + misled + (untold if history.tells else doubtful)
    if len(lost) > allowed:
        yield f"{names}: nobody knows of {', '.join(lost)}; {doubtful} in doubt"
    for row in jobs:
        if row.state == "in_doubt" and history.tells and not lost and _is_provable(night, row):
            yield f"{row.id} is left in doubt, and the history shows that it was not accepted"


def _is_provable(night: Night, row: Row) -> bool:
    """Whether the history, as it is, proves that a job in doubt was never accepted."""
    if row.requeues >= REQUEUE_LIMIT or _is_untold(night, row):
        return False
    sent = max(at for at, action, *_ in row.attempts if action == "submitting")
    of_model = [r for r in night.server.requests.values() if r.model == row.model]
    # Another one of the same body about that time might be this one, for all that the history tells.
    alike = any(
        compact(r.body) == row.body and r.accepted_at > sent - NEARBY_S - DRIFT_S
        for r in of_model
        if r.stranger or r.id not in _known(night)
    )
    until = max(sent + TIMEOUT_S, (row.server_until or 0.0) - EPOCH)
    return not alike and any(r.accepted_at > until + DRIFT_S for r in of_model)


def _is_untold(night: Night, row: Row) -> bool:
    """Whether a job was sent while nothing had answered, or by a server that dates no answer."""
    wire = night.weather.wire
    silent = wire.lost or wire.never_left or wire.outages or wire.rpm
    return row.server_at is None and bool(silent or not night.weather.dated)


def _known(night: Night) -> set[str]:
    return set[str]().union(*(row.ids for row in rows_of(night)))


def _story(night: Night, row: Row) -> Iterator[str]:
    """Whatever was ever said of a job was true when it was said."""
    request: Request | None = None
    for now, action, detail, request_id in row.attempts:
        if request_id:
            request = night.server.requests.get(request_id)
        if action in ("submitting", "pending", "retry"):
            request = None
        if request is None:
            continue
        says = f"{row.id} was said to be {action} at {now:.1f} ({detail}); the server has {request}"
        blocked = "blocked" in request.error
        if action == "expired" and now < request.accepted_at + RETENTION_S - DRIFT_S:
            yield says
        if action == "expired" and _is_needless(night, row, request, now):
            yield f"{says}: it could have been collected"
        if action == "completed" and (request.outcome, request.done_at > now + DRIFT_S) != (
            "COMPLETED",
            False,
        ):
            yield says
        if action in ("failed", "blocked") and (request.outcome, blocked) != (
            "FAILED",
            action == "blocked",
        ):
            yield says


def _is_needless(night: Night, row: Row, request: Request, now: float) -> bool:
    """Whether a life could have collected this result without hurry, and had only to ask for it."""
    wire = night.weather.wire
    if wire.get_errors or wire.lost or wire.slow or wire.never_left or wire.outages or wire.rpm:
        return False
    known = min(
        (at for at, *_, id in row.attempts if id == request.id),  # noqa: A001
        default=now,
    )
    over = request.accepted_at + RETENTION_S
    return any(
        lived.life.rpm is None
        and not lived.life.sleeps
        and lived.life.death.kind in ("none", "step", "commit", "point")
        and max(lived.began, known) + DRIFT_S < max(request.done_at, lived.began) < over - AMPLE_S
        and now <= lived.ended + DRIFT_S
        for lived in night.lived
        if lived.ended > over
    )


def _outcome(night: Night, row: Row) -> Iterator[str]:
    """What was made and is still kept is saved, and costs what the server charged."""
    request = night.server.requests.get(row.request_id or "")
    if request is None:
        if row.state in ("saved", "blocked", "expired"):
            yield f"{row.id} is {row.state} without a request"
        return
    says = f"{row.id} is {row.state}; the server has {request}"
    if row.state in ("invalid", "in_doubt"):
        yield says
    kept = request.outcome == "COMPLETED" and night.server.keeps(request)
    if kept and row.state != "saved" and (night.weather.history.tells or row.state != "expired"):
        yield f"{says}: it is lost"
    is_told = night.weather.history.tells and night.server.keeps(request)
    if request.outcome == "FAILED" and is_told and row.state not in ("failed", "blocked"):
        yield says
    if row.state == "saved" and len(row.ids) == 1 and abs((row.cost or 0.0) - request.cost) > 1e-9:
        yield f"{says}: the ledger says that it cost {row.cost}"
    if row.state in ("failed", "blocked") and row.cost and len(row.ids) == 1:
        yield f"{says}: a failed job costs nothing, and not {row.cost}"
