"""What a run will cost, take and need, from what finished jobs of the same models cost, took and needed.

Time is the longest of three: requests at the account's rate; Little's law, work divided by the jobs in
flight; downloads at so many at once. All of it is arithmetic over samples, none of it a promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, fsum

from runner.policy.pace import SLACK_S, WINDOW_S

# A submit and one GET, and now and then a question that came too early.
REQUESTS_PER_JOB = 2.2
# Fewer finished jobs than these are an anecdote.
ENOUGH = 10
# The pace lets so many requests out at once and then waits until the first of them is so old.
PACED_S = WINDOW_S + SLACK_S
# The poller asks when about nine in ten are done, and again somewhat later: where jobs stayed in flight
# for longer than that, it was the rate that held the polls up, and the rate is counted by itself.
ASKED_AT, ASKED_AGAIN = 0.9, 1.35
# The last jobs are found some time after they are done.
FOUND_LATE = 1.1
DOWNLOADS_AT_ONCE = 64
# Prices that differ by more are no single price.
SPREAD = 1.1


@dataclass(frozen=True, slots=True)
class Known:
    """A sample of a model's finished jobs, each column sorted or not; dollars, seconds, bytes.

    `flights_s`: from the submit to the known result. `services_s`: what the API says it worked.
    `fetches_s`: from the result to the saved files. `ended_short`: jobs that came to nothing meanwhile.
    `stated_price`: what somebody says a job costs, for want of a sample.
    """

    finished: int = 0
    ended_short: int = 0
    costs: Sequence[float] = ()
    flights_s: Sequence[float] = ()
    services_s: Sequence[float] = ()
    fetches_s: Sequence[float] = ()
    sizes_bytes: Sequence[float] = ()
    stated_price: float | None = None

    @property
    def success(self) -> float:
        """The share of jobs that come to a result; failed ones cost nothing."""
        return self.finished / (self.finished + self.ended_short) if self.finished else 1.0

    @property
    def price(self) -> float | None:
        """What a result costs on average."""
        return mean(self.costs) if self.costs else self.stated_price

    @property
    def highest_price(self) -> float | None:
        """What a budget reserves for a job."""
        return max(self.costs, default=self.stated_price)

    @property
    def occupancy_s(self) -> float | None:
        """How long a job takes one of the places in flight, where no rate limit holds its polls up."""
        if not self.flights_s:
            return None
        if not self.services_s:
            return mean(self.flights_s)
        return min(mean(self.flights_s), ASKED_AGAIN * quantile(self.services_s, ASKED_AT))


@dataclass(frozen=True, slots=True)
class Load:
    """The jobs of one model: to be submitted, in flight already, and finished but not fetched."""

    model: str
    submits: int = 0
    in_flight: int = 0
    downloads: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds a run. `rpm` None: nobody knows a rate; `budget` in dollars and `limit` None: no bound."""

    concurrency: int
    rpm: float | None = None
    requests_per_job: float = REQUESTS_PER_JOB
    budget: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take; None where there is nothing to tell it from.

    `left`: jobs that the limit or the budget leaves for later. `cost_low`, `cost_high`: where prices
    differ from job to job. `guesses`: why it is less than an estimate; empty when it is one.
    """

    submits: int = 0
    left: int = 0
    requests: int = 0
    cost: float | None = None
    cost_low: float | None = None
    cost_high: float | None = None
    seconds: float | None = None
    size_bytes: int | None = None
    guesses: tuple[str, ...] = ()


def forecast(loads: Sequence[Load], known: Mapping[str, Known], bounds: Bounds) -> Forecast:
    """What a run of these jobs would take."""
    wanted = sum(load.submits for load in loads)
    loads = _bounded(loads, known, bounds)
    submits, in_flight = sum(load.submits for load in loads), sum(load.in_flight for load in loads)
    requests = ceil(submits * bounds.requests_per_job + in_flight * (bounds.requests_per_job - 1))
    low, cost, high = _costs(loads, known)
    return Forecast(
        submits=submits,
        left=wanted - submits,
        requests=requests,
        cost=cost,
        cost_low=low,
        cost_high=high,
        seconds=_seconds(loads, known, bounds, requests),
        size_bytes=_size_bytes(loads, known),
        guesses=tuple(_guesses(loads, known)),
    )


def mean(values: Sequence[float]) -> float:
    """The average, which times a number is a sum; the sample is not empty."""
    return fsum(values) / len(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the sample do not exceed; the sample is not empty."""
    return weighted_quantile([(value, 1.0) for value in values], share)


def weighted_quantile(values: Iterable[tuple[float, float]], share: float) -> float:
    """As `quantile`, over (value, weight); at least one weight is above 0."""
    ordered = sorted(each for each in values if each[1] > 0)
    goal = share * fsum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= goal:
            return value
    return ordered[-1][0]


def _bounded(loads: Sequence[Load], known: Mapping[str, Known], bounds: Bounds) -> list[Load]:
    """The loads that limit and budget let through; which models come first is not known here."""
    wanted = sum(load.submits for load in loads)
    share = 1.0
    if bounds.limit is not None and wanted:
        share = min(share, bounds.limit / wanted)
    if bounds.budget is not None:
        full = [_price(known, load.model) * load.submits for load in loads]
        due = [_highest(known, load.model) * load.in_flight for load in loads]
        if fsum(full) > 0:
            share = min(share, max(0.0, bounds.budget - fsum(due)) / fsum(full))
        elif bounds.budget <= 0:
            share = 0.0
    return [replace(load, submits=int(load.submits * share + 1e-9)) for load in loads]


def _price(known: Mapping[str, Known], model: str) -> float:
    found = known.get(model, Known())
    return (found.price or 0.0) * found.success


def _highest(known: Mapping[str, Known], model: str) -> float:
    return known.get(model, Known()).highest_price or 0.0


def _costs(
    loads: Sequence[Load], known: Mapping[str, Known]
) -> tuple[float | None, float | None, float | None]:
    """Lowest, likely and highest cost of all that is not paid yet; None for a price nobody knows."""
    low = cost = high = 0.0
    is_known = True
    for load in loads:
        found, jobs = known.get(load.model, Known()), load.submits + load.in_flight
        if not jobs:
            continue
        if found.price is None:
            is_known = False
            continue
        jobs_paid = jobs * found.success
        prices = found.costs or (found.price,)
        cost += jobs_paid * found.price
        low += jobs_paid * quantile(prices, 0.1)
        high += jobs_paid * quantile(prices, 0.9)
    # Of what has a price, the least that it may come to is worth telling all the same.
    return (min(low, cost), cost, max(high, cost)) if is_known else (low or None, None, None)


def _seconds(
    loads: Sequence[Load], known: Mapping[str, Known], bounds: Bounds, requests: int
) -> float | None:
    jobs = sum(load.submits + load.in_flight for load in loads)
    flow_s = _flow_s(loads, known, bounds.concurrency)
    if bounds.rpm is None:
        worked_s = flow_s
    else:
        windows = max(0, ceil(requests / bounds.rpm) - 1)
        # What is left for the last window goes out as quickly as the jobs in flight allow.
        rest = (requests - windows * bounds.rpm) / max(requests, 1)
        last_s = (
            rest * PACED_S
            if flow_s is None
            else min(PACED_S, _flow_s(loads, known, bounds.concurrency, rest) or 0.0)
        )
        worked_s = max(windows * PACED_S + last_s, flow_s or 0.0)
    fetched_s = _fetched_s(loads, known)
    if worked_s is None or (not jobs and fetched_s is None):
        return None
    return max(worked_s, fetched_s or 0.0)


def _flow_s(
    loads: Sequence[Load], known: Mapping[str, Known], concurrency: int, share: float = 1.0
) -> float | None:
    """Little's law over a `share` of the jobs, and the wait for the slowest of the last ones."""
    samples: list[tuple[float, float]] = []
    work_s = jobs = longest_s = 0.0
    for load in loads:
        count = (load.submits + load.in_flight) * share
        if not count:
            continue
        found = known.get(load.model, Known())
        if found.occupancy_s is None:
            return None
        ends = found.services_s or found.flights_s
        samples += [(value, count / len(ends)) for value in ends]
        work_s += count * found.occupancy_s
        jobs += count
        longest_s = max(longest_s, quantile(ends, 0.5))
    if not jobs:
        return 0.0
    last = min(jobs, concurrency)
    slowest_s = FOUND_LATE * weighted_quantile(samples, 1.0 - 1.0 / (last + 1.0))
    steady_s = max(0.0, jobs - concurrency) / concurrency * (work_s / jobs)
    return max(steady_s + slowest_s, longest_s)


def _fetched_s(loads: Sequence[Load], known: Mapping[str, Known]) -> float | None:
    """How long the downloads take that wait for nothing else; None where none was seen."""
    total_s, seen = 0.0, False
    for load in loads:
        found = known.get(load.model, Known())
        if found.fetches_s:
            seen = True
            # The quickest quarter did not queue.
            each_s = quantile(found.fetches_s, 0.25)
            total_s += each_s * (load.submits + load.in_flight + load.downloads)
    return total_s / DOWNLOADS_AT_ONCE if seen else None


def _size_bytes(loads: Sequence[Load], known: Mapping[str, Known]) -> int | None:
    total = 0.0
    for load in loads:
        jobs = load.submits + load.in_flight
        found = known.get(load.model, Known())
        if not jobs + load.downloads:
            continue
        if not found.sizes_bytes:
            return None
        total += (jobs * found.success + load.downloads) * mean(found.sizes_bytes)
    return round(total)


def _guesses(loads: Sequence[Load], known: Mapping[str, Known]) -> Iterable[str]:
    for load in loads:
        found = known.get(load.model, Known())
        if not load.submits + load.in_flight or found.finished >= ENOUGH:
            continue
        if found.finished:
            jobs = "1 job" if found.finished == 1 else f"{found.finished} jobs"
            yield f"only {jobs} of {load.model} finished in this ledger so far"
        elif found.stated_price is not None:
            yield f"no job of {load.model} finished in this ledger yet; its price is the config's"
        else:
            yield f"no job of {load.model} finished in this ledger yet"
