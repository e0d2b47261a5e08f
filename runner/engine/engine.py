"""One run: admission, wake-ups, draining, stopping. Steps write the ledger; the engine wakes the next.

    pending ──submitter──▶ submitted ──poller──▶ completed ──downloader──▶ saved

Each arrow is a loop that starts one task a job. Nothing is handed from step to step but the news that
there is work: what the work is, the ledger says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from runner.downloader import Downloader
from runner.engine.asking import LONGEST_WAIT_S, Asking
from runner.engine.beginning import Beginning
from runner.engine.credit import Credit
from runner.engine.fetching import Fetching
from runner.engine.memory import Memory
from runner.engine.queues import Pending
from runner.engine.stopped import StoppedModels
from runner.errors import first_error
from runner.events import Draining, Ending, Moved, Noted, Observer
from runner.gate import Gate
from runner.governor import Bell, Governor, Urgency
from runner.inventory import Inventory
from runner.job import IN_FLIGHT_STATES, Consequence, State, StepResult
from runner.ledger import Ledger, Record
from runner.poller import Pages, Poller
from runner.reconciler import Reconciler
from runner.submitter import Submitter
from runner.treasurer import Treasurer

# A host that was never reached since the run began is more likely misspelt than down.
GIVE_UP_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds a run: tries for a file, seconds to drain, whether an empty balance is waited out."""

    download_attempts: int
    drain_s: float
    wait_for_credits: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Who moves jobs; each owns the states it moves them out of."""

    submitter: Submitter
    poller: Poller
    downloader: Downloader
    inventory: Inventory
    reconciler: Reconciler
    treasurer: Treasurer
    pages: Pages | None = None


class Engine:
    """Runs the jobs of some manifests, and collects whatever else is in flight in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        governor: Governor,
        steps: Steps,
        gate: Gate,
        bounds: Bounds,
        manifests: Sequence[int],
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._governor = governor
        self._steps = steps
        self._gate = gate
        self._bounds = bounds
        self._manifests = tuple(manifests)
        self._observer = observer
        self._pending = Pending(ledger, governor, self._manifests)
        self._fetching = Fetching(
            ledger, governor, steps.downloader, bounds.download_attempts, self._fetched
        )
        self._ending = Ending()
        self._draining = self._halted = False
        self._beginning = Beginning(ledger, governor, steps.treasurer, steps.poller, observer)
        self._taking_inventory = True
        self._reconciling, self._unlooked = True, False
        self._nothing_to_send = False
        self._stopped_models = StoppedModels(ledger, governor, self._manifests, observer)
        self._asking = Asking(steps.poller, governor, self._asked, steps.pages)
        self._schedule = steps.poller.schedule
        self._memory = Memory(ledger, governor, self._schedule)
        self._credit = Credit(steps.treasurer, gate, observer)
        self._submit_bell, self._end_bell, self._doubt_bell = Bell(), Bell(), Bell()
        self._scope = anyio.CancelScope()
        self._started = governor.now()

    async def recover(self) -> int:
        """What a dead run left behind enters again by the same doors. Returns how many are in doubt."""
        doubtful = await self._ledger.doubt_interrupted(self._governor.now())
        for record in [*await self._ledger.submitted(), *await self._ledger.in_doubt()]:
            self._gate.inherit(record)
        await self._count_pending()
        return doubtful

    async def run(self) -> Ending:
        """Works until all is settled or the run is told to stop; call `recover` before."""
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for governor in {self._governor, self._steps.reconciler.governor}:
                        group.start_soon(governor.run)
                    group.start_soon(self._memory.run)
                    group.start_soon(self._credit.run, self._ring)
                    group.start_soon(self._take_inventory)
                    group.start_soon(self._begin, group)
                    group.start_soon(self._fetching.run, group, self._end_bell.ring)
                    while not self._settled():
                        await self._end_bell.wait()
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors
        await self._memory.keep()
        return self._ending

    async def _begin(self, group: TaskGroup) -> None:
        """What depends on the server's time begins when it was heard."""
        await self._beginning.hear(self.is_draining)
        for record in await self._beginning.take_over():
            self._moved(record, State.SUBMITTED, StepResult(State.EXPIRED))
        group.start_soon(self._reconcile_loop)
        group.start_soon(self._submit_loop, group)
        group.start_soon(self._asking.run, group)

    def drain(self, reason: str) -> None:
        """No new submits; what is in flight is finished, for as long as the bounds allow."""
        if self._draining:
            return
        self._draining = True
        self._schedule.to_submit = 0
        self._ending.stopped = self._ending.stopped or reason
        # What is left at that time is on disk and goes on with the next run.
        self._scope.deadline = anyio.current_time() + self._bounds.drain_s
        self._observer(Draining(reason))
        self._ring()

    def stop(self, reason: str) -> None:
        """Ends the run at once; everything goes on with the next one."""
        self._ending.stopped = self._ending.stopped or reason
        self._scope.cancel()

    def is_draining(self) -> bool:
        """Whether no new job is sent any more."""
        return self._draining

    def halt(self, reason: str) -> None:
        """Sends nothing more to the API, drained or not; answers and downloads under way are taken in."""
        self._halted = True
        self._asking.halt()
        self.drain(reason)
        self._ring()

    def _settled(self) -> bool:
        if self._gate.submitting or self._taking_inventory or not self._fetching.idle:
            return False
        if not self._draining and (self._reconciling or not self._nothing_to_send):
            return False
        return self._halted or self._gate.in_flight == 0

    def _ring(self) -> None:
        self._asking.wake()
        for bell in (self._submit_bell, self._end_bell):
            bell.ring()

    async def _take_inventory(self) -> None:
        async for found in self._steps.inventory.take(self._manifests):
            job = found.job
            self._observer(Moved(job.id, job.manifest, job.model, job.state, found.after))
            if found.after is State.COMPLETED:
                self._fetching.add(job.key)
        self._taking_inventory = False
        self._ring()

    async def _reconcile_loop(self) -> None:
        reconciler = self._steps.reconciler
        while not self._halted:
            self._unlooked = False
            await reconciler.look(self._resolved)
            # What came into doubt during the look was not seen by it.
            self._reconciling = reconciler.holds_up or self._unlooked
            self._ring()
            next_look = reconciler.next_look
            wait_s = None if next_look is None else max(0.0, next_look - self._governor.now())
            await self._doubt_bell.wait(wait_s)

    async def _resolved(self, record: Record, result: StepResult) -> None:
        self._moved(record, record.state, result)
        if result.state is State.SUBMITTED and (found := await self._ledger.one(record.key)):
            self._steps.poller.watch(found)
        elif result.state is State.COMPLETED:
            self._fetching.add(record.key)
        elif result.state is State.PENDING and record.model in self._stopped_models:
            await self._stopped_models.stop_again(record.model)
        elif result.state is State.PENDING:
            self._nothing_to_send = False
            self._pending.look_again()
        self._ring()

    async def _submit_loop(self, group: TaskGroup) -> None:
        while not self.is_draining():
            self._gate.allow(self._governor.rpm)
            self._schedule.rpm = self._governor.rpm
            if self._gate.limit_reached:
                self.drain(self._gate.limit_reached)
            elif not self._gate.has_room(self._governor.now()):
                await self._submit_bell.wait(LONGEST_WAIT_S)
            elif (record := await self._pending.next(self._stopped_models)) is None:
                self._nothing_to_send = not self._gate.submitting and self._pending.next_at is None
                self._end_bell.ring()
                await self._submit_bell.wait(self._pending.wait_s())
            else:
                self._nothing_to_send = False
                await self._send(record, group)
        self._end_bell.ring()

    async def _send(self, record: Record, group: TaskGroup) -> None:
        """Waits for the money and the turn for one job, then starts its submit."""
        while not self._gate.can_pay(record) and not self.is_draining():
            if not self._gate.in_flight and not self._reconciling:
                self.drain(self._gate.budget_reached)
                return
            await self._submit_bell.wait()
        await self._governor.turn(Urgency.SUBMIT)
        if not self.is_draining():
            self._moved(record, State.PENDING, StepResult(State.SUBMITTING))
            group.start_soon(self._submit, record)

    async def _submit(self, record: Record) -> None:
        result = await self._steps.submitter.submit(record)
        self._pending.ended(record.key)
        if result.sent is not None:
            self._steps.poller.watch(record.accepted(*result.sent))
        if result.state is State.PENDING and result.again_at is not None:
            self._pending.put_off(record.key, result.again_at)
        self._moved(record, State.SUBMITTING, result)
        await self._consider(record, result)

    async def _asked(self, record: Record, result: StepResult) -> None:
        if result.state is None:
            return
        if result.state not in IN_FLIGHT_STATES:
            self._moved(record, State.SUBMITTED, result)
        if result.state is State.COMPLETED:
            self._fetching.add(record.key)
        await self._consider(record, result)

    async def _fetched(self, record: Record, result: StepResult, tries: int) -> None:
        """A download has ended; `tries` is how often it was tried when it is given up, else 0."""
        if result.state not in (None, State.COMPLETED):
            self._moved(record, State.COMPLETED, result)
        elif tries:
            why = f"job {record.id} is not saved after {tries} tries: {result.reason}"
            self._observer(Noted(why, warning=True))
            self._ending.stopped = self._ending.stopped or "some files did not come whole"
        await self._consider(record, result)

    async def _consider(self, record: Record, result: StepResult) -> None:
        """What a step's result asks of the run as a whole; then whoever can go on is woken."""
        match result.consequence:
            case Consequence.STOP_MODEL:
                await self._stop_model(record.model, result.reason)
            case Consequence.PAUSE:
                self.drain(result.reason)
            case Consequence.OUT_OF_CREDITS:
                if self._bounds.wait_for_credits:
                    self._credit.ran_out()
                else:
                    self.drain(result.reason)
            case Consequence.KEY_REFUSED:
                self._ending.key_refused = True
                self.halt(f"the API refused the key ({result.reason})")
            case Consequence.NONE if (
                result.state is State.PENDING and record.model in self._stopped_models
            ):
                await self._stopped_models.stop_again(record.model)
        why = self._gate.tripped(record, result)
        if why and record.model not in self._stopped_models:
            await self._stop_model(record.model, why)
        if result.state in (State.IN_DOUBT, State.EXPIRED):
            self._reconciling = self._unlooked = True
            self._doubt_bell.ring()
        waiting = result.state in (State.PENDING, State.SUBMITTED)
        patience_ends = self._started + GIVE_UP_AFTER_S
        if waiting and not self._governor.ever_reached and self._governor.now() > patience_ends:
            self.halt(f"the API was not reached once ({result.reason}); is api.base_url right?")
        self._ring()

    async def _stop_model(self, model: str, reason: str) -> None:
        await self._stopped_models.stop(model, reason)
        await self._count_pending()

    async def _count_pending(self) -> None:
        count = await self._ledger.count_pending(self._manifests)
        self._schedule.to_submit = 0 if self._draining else count

    def _moved(self, record: Record, before: State, result: StepResult) -> None:
        self._gate.moved(record, before, result, self._governor.now())
        after = result.state or State.PENDING
        if self._schedule.to_submit and not self._draining:
            self._schedule.to_submit += (after is State.PENDING) - (before is State.PENDING)
        self._observer(
            Moved(
                record.id,
                record.manifest,
                record.model,
                before,
                after,
                cost=result.cost,
                reason=result.reason or None,
            )
        )
