"""What waits to be sent and to be fetched; the ledger is the queue, these know where to look next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container, Sequence
from random import Random

from runner.governor import Governor
from runner.job import State
from runner.ledger import Ledger, Record
from runner.policy.backoff import full_jitter

PAGE = 100
RETRY_CAP_S = 30.0


class Pending:
    """Jobs to send: the manifests in order, and between them those that were put off and are due."""

    def __init__(self, ledger: Ledger, governor: Governor, manifests: Sequence[int]) -> None:
        self._ledger = ledger
        self._governor = governor
        self._manifests = manifests
        self._page: deque[Record] = deque()
        self._put_off: list[tuple[float, int]] = []
        self._left: deque[int] = deque(manifests)
        self._after = 0
        self._again_at: float | None = None
        # A page may be read again before the intent to send one of its jobs is committed.
        self._given: set[int] = set()
        self._passed_over: set[int] = set()

    def put_off(self, key: int, until: float) -> None:
        """A job that was taken is pending again, and may be sent at `until`."""
        heapq.heappush(self._put_off, (until, key))

    def look_again(self) -> None:
        """There may be pending jobs that were not there before."""
        self._again_at = self._governor.now()

    def ended(self, key: int) -> None:
        """The sending of a job that was given out has ended, one way or another."""
        self._given.discard(key)
        if key in self._passed_over:
            self._passed_over.discard(key)
            self.look_again()

    async def next(self, stopped_models: Container[str]) -> Record | None:
        """The next job to send, or None when none is due; it is not given again before it has ended."""
        while True:
            record = await self._take()
            if record is None:
                return None
            if record.model not in stopped_models:
                self._given.add(record.key)
                return record

    @property
    def next_at(self) -> float | None:
        """When the first of the jobs that wait for a time may be sent."""
        times = [time for time in (self._again_at,) if time is not None]
        times += [self._put_off[0][0]] if self._put_off else []
        return min(times, default=None)

    def wait_s(self) -> float | None:
        """Seconds until there may be a job to send; None when only a wake-up can bring one."""
        next_at = self.next_at
        return None if next_at is None else max(0.0, next_at - self._governor.now())

    async def _take(self) -> Record | None:
        now = self._governor.now()
        while self._put_off and self._put_off[0][0] <= now:
            _, key = heapq.heappop(self._put_off)
            if key in self._given:
                # Put off twice, and sent again since through the page.
                continue
            record = await self._ledger.one(key)
            if record is not None and record.state is State.PENDING:
                # The page may have it as well.
                self._page = deque(other for other in self._page if other.key != key)
                return record
        if self._again_at is not None and self._again_at <= now:
            self._start_over()
        while not self._page and self._left:
            await self._turn_page(now)
        return self._page.popleft() if self._page else None

    async def _turn_page(self, now: float) -> None:
        page = await self._ledger.pending(self._left[0], self._after, PAGE, now)
        self._page.extend(record for record in page if record.key not in self._given)
        self._passed_over.update(record.key for record in page if record.key in self._given)
        if len(page) == PAGE:
            self._after = page[-1].key
            return
        self._after = 0
        self._left.popleft()
        if not self._left:
            # An earlier run may have put jobs off; those of this run are in the heap as well.
            postponed = await self._ledger.next_postponed(self._manifests, now)
            # Meanwhile somebody may have asked for another look.
            times = [time for time in (self._again_at, postponed) if time is not None]
            self._again_at = min(times, default=None)

    def _start_over(self) -> None:
        self._page.clear()
        self._left = deque(self._manifests)
        self._after = 0
        self._again_at = None


class Downloads:
    """Completed jobs whose files are to be fetched: those of earlier runs and those that come up."""

    def __init__(self, ledger: Ledger, governor: Governor, rng: Random) -> None:
        self._ledger = ledger
        self._governor = governor
        self._rng = rng
        self._ready: deque[int] = deque()
        self._later: list[tuple[float, int]] = []
        self._known: set[int] = set()
        self._tries: dict[int, int] = {}
        self._after = 0
        self._scanned = False
        self.active = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._scanned and not self._known

    def add(self, key: int) -> None:
        """A job was completed."""
        if key not in self._known:
            self._known.add(key)
            self._ready.append(key)

    async def next(self) -> int | None:
        """The next job to fetch files for, or None when none is due; counts as active from then."""
        if not self._ready and not self._scanned:
            await self._scan()
        return self.take()

    def take(self) -> int | None:
        """Like `next`, of those that are known by now."""
        now = self._governor.now()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[1])
        if not self._ready:
            return None
        self.active += 1
        return self._ready.popleft()

    def wait_s(self) -> float | None:
        """Seconds until a put-off download is due; None without one."""
        if not self._later:
            return None
        return max(0.0, self._later[0][0] - self._governor.now())

    def tries(self, key: int) -> int:
        """How often a download was tried in vain so far."""
        return self._tries.get(key, 0)

    def ended(self, key: int, again: bool, attempts: int) -> int:
        """A download ended; `again`: it did not come whole. Returns how often it was tried."""
        self.active -= 1
        tries = self._tries.pop(key, 0) + 1
        if again and tries < attempts:
            self._tries[key] = tries
            wait_s = full_jitter(tries, self._rng, cap_s=RETRY_CAP_S)
            heapq.heappush(self._later, (self._governor.now() + wait_s, key))
        else:
            self._known.discard(key)
        return tries

    async def _scan(self) -> None:
        page = await self._ledger.completed_keys(self._after, PAGE)
        for key in page:
            self.add(key)
        self._scanned = len(page) < PAGE
        if page:
            self._after = page[-1]
