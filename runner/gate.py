"""Whether another job may be sent: room in flight, the run's limit, its budget, the account's balance."""

from __future__ import annotations

from runner.job import IN_FLIGHT_STATES, State, StepResult
from runner.ledger import Record
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget

# The API may have taken these: what they cost is not known yet.
OPEN_STATES = IN_FLIGHT_STATES | {State.IN_DOUBT, State.EXPIRED}


class Gate:
    """Keeps count of the jobs on their way; every move of a run is told to it."""

    def __init__(
        self, admission: Admission, budget: Budget, breaker: Breaker, limit: int | None
    ) -> None:
        self._admission = admission
        self._budget = budget
        self._breaker = breaker
        self._limit = limit
        self._sent = 0
        self.in_flight = 0
        self.submitting = 0
        self.balance_is_empty = False

    def has_room(self, now: float) -> bool:
        """Whether the number in flight, the limit and the balance allow one more job of any kind."""
        within_limit = self._limit is None or self._sent + self.submitting < self._limit
        return (
            within_limit
            and not self.balance_is_empty
            and self.in_flight < self._admission.most(now)
        )

    def allow(self, rpm: float | None) -> None:
        """The requests a minute that are allowed, as far as that is known by now."""
        self._admission.rpm = rpm

    def can_pay(self, record: Record) -> bool:
        """Whether the budget allows this job, all that is open counted."""
        return self._budget.allows(record.model)

    @property
    def limit_reached(self) -> str | None:
        """That the run has sent as many jobs as it may, in words."""
        if self._limit is None or self._sent < self._limit:
            return None
        return f"the limit of {self._limit} new submissions is reached"

    @property
    def budget_reached(self) -> str:
        """That another job would exceed the budget, in words."""
        reserved = self._budget.reserved
        held = f" and ${reserved:,.2f} may be due for jobs in doubt" if reserved else ""
        limit = self._budget.limit or 0.0
        return f"the budget of ${limit:,.2f} is reached: ${self._budget.spent:,.2f} spent{held}"

    def inherit(self, record: Record) -> None:
        """A job that an earlier run has sent."""
        self.in_flight += record.state in IN_FLIGHT_STATES
        self._budget.reserve(record.key, record.model)

    def moved(self, record: Record, before: State, result: StepResult, now: float) -> None:
        """A job went from `before` to where the result says."""
        after = result.state or State.PENDING
        self.submitting += (after is State.SUBMITTING) - (before is State.SUBMITTING)
        self.in_flight += (after in IN_FLIGHT_STATES) - (before in IN_FLIGHT_STATES)
        if before is State.SUBMITTING and after in (State.SUBMITTED, State.IN_DOUBT):
            self._sent += 1
        if before is State.SUBMITTED and after is not State.SUBMITTED:
            self._admission.completed(now)
        # What was completed is paid for, whatever becomes of its files.
        if after in OPEN_STATES and before is not State.COMPLETED:
            self._budget.reserve(record.key, record.model)
        elif before in OPEN_STATES:
            cost = result.cost
            if cost is None and (after is State.COMPLETED or result.paid_perhaps):
                # A price that is not told has been paid all the same.
                cost = self._budget.price(record.model)
            self._budget.settle(record.key, record.model, cost)

    def tripped(self, record: Record, result: StepResult) -> str | None:
        """Why the job's model should be stopped after this result, if it should."""
        if result.state is State.COMPLETED:
            self._breaker.succeeded(record.model)
        if result.state not in (State.FAILED, State.INVALID):
            return None
        if not self._breaker.failed(record.model, result.reason):
            return None
        return f"{self._breaker.limit} jobs in a row ended with: {result.reason}"
