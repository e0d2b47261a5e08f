"""When the last submit may leave, so that what is in flight is collected before a run's deadline.

A job needs as long from its submit to its saved file as most jobs of its model took: those of this run
once there are enough of them, those that the ledger remembers until then. That time holds the waits for
a turn at the rate limit as well. Where half of what is in flight is older than that, jobs take longer
tonight, and their age counts. The slowest model that still has jobs decides.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runner.events import Moved
from runner.job import IN_FLIGHT_STATES, State

# Nineteen in twenty are home by then; what is not is collected by the next run.
SHARE = 0.95
REMEMBERED = 200
# From so many jobs on the run's own times count, and not those of earlier nights.
ENOUGH = 5
# What is between a result and its saved file, and a little that is nobody's fault.
MARGIN = 1.1
MARGIN_S = 2.0
# A model that nobody knows: this long, but never so long that none of its jobs is tried.
UNKNOWN_S = 60.0
UNKNOWN_SHARE = 0.5
# Nearer than this, minutes are not exact enough.
SHORT_S = 600.0
_ON_THE_WAY = IN_FLIGHT_STATES | {State.COMPLETED}
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a run has to be over (epoch seconds), and how that was asked for: `until 07:00`."""

    at: float
    words: str


def next_time_of_day(text: str, now: float) -> float:
    """The next time (epoch seconds) that clocks here show `HH:MM`; ValueError for anything else.

    Clocks that are put back show it twice, and the first that is still to come counts; of a time that
    they leap over the moment after the leap does.
    """
    found = _TIME_OF_DAY.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"must be a time of day like `07:00`, not `{text}`")
    here = datetime.fromtimestamp(now, UTC).astimezone().replace(tzinfo=None)
    wanted = here.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    days = (wanted, wanted + timedelta(days=1))
    first = [day.timestamp() for day in days]
    # Of a time that is leapt over, the second reading is the earlier one and means nothing.
    second = [
        max(one, day.replace(fold=1).timestamp()) for one, day in zip(first, days, strict=True)
    ]
    return min(moment for moment in first + second if moment > now)


def no_submits_words(deadline: Deadline, now: float) -> str:
    """That nothing more is sent, from `now` on as clocks here show it."""
    form = "%H:%M:%S" if deadline.at - now < SHORT_S else "%H:%M"
    clock = datetime.fromtimestamp(now, UTC).astimezone().strftime(form)
    return f"{deadline.words}: no new submits from {clock}"


class Curfew:
    """Learns from a run's moves how long jobs are on their way. All times are one clock's.

    `known`: seconds that recent jobs of each model took. `pending`: jobs of each model that wait to be
    sent. `longest_s`: a drain is cut off after this, so that to begin it sooner would be in vain.
    """

    def __init__(
        self,
        deadline: float,
        started: float,
        *,
        known: Mapping[str, Sequence[float]],
        pending: Mapping[str, int],
        longest_s: float,
    ) -> None:
        self._deadline = deadline
        self._known = {model: _quantile(times) for model, times in known.items() if times}
        self._unknown_s = min(UNKNOWN_S, UNKNOWN_SHARE * max(0.0, deadline - started))
        self._pending = Counter(pending)
        self._longest_s = longest_s
        self._open: dict[tuple[str, str], tuple[str, float]] = {}
        self._own: dict[str, deque[float]] = {}

    def see(self, event: Moved, now: float) -> None:
        """Takes a move in."""
        if event.before is State.PENDING:
            self._pending[event.model] -= event.count
        if event.after is State.PENDING:
            self._pending[event.model] += event.count
        job = (event.manifest, event.job_id)
        if event.after is State.SUBMITTING:
            self._open[job] = (event.model, now)
        if event.after is State.SAVED and job in self._open:
            times = self._own.setdefault(event.model, deque(maxlen=REMEMBERED))
            times.append(now - self._open[job][1])
        if event.after not in _ON_THE_WAY:
            self._open.pop(job, None)

    def last_submit(self, now: float) -> float:
        """When the last submit may leave, by what is known at `now`."""
        ages: dict[str, list[float]] = {m: [] for m, count in self._pending.items() if count > 0}
        for model, sent in self._open.values():
            ages.setdefault(model, []).append(now - sent)
        needs = (max(self._usual_s(model), _median(ages[model])) for model in ages)
        return self._deadline - min(max(needs, default=0.0), self._longest_s)

    def _usual_s(self, model: str) -> float:
        own = self._own.get(model, ())
        if len(own) >= ENOUGH or (own and model not in self._known):
            usual_s = _quantile(own)
        elif model in self._known:
            usual_s = self._known[model]
        else:
            return self._unknown_s
        return usual_s * MARGIN + MARGIN_S


def _quantile(times: Sequence[float] | deque[float]) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(SHARE * len(ordered)))]


def _median(ages: Sequence[float]) -> float:
    return sorted(ages)[len(ages) // 2] if ages else 0.0
