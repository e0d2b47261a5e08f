"""A model of the server and an independent witness: what it accepted, made, charged and still keeps.

It lives in true time, apart from any event loop: a request that is on its way when its sender dies
arrives all the same.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any

from runner.job import Answer, Fault

from .weather import FILE_LIFE_S, RETENTION_S, Weather

EPOCH = 1_790_000_000.0
STRANGER = -1
# An account's limit of requests is told for windows of this length.
LAG_S = 5.0
WINDOW_S = 60.0


@dataclass(slots=True)
class Request:
    """One accepted POST. Times are true seconds since the night began."""

    id: str
    model: str
    body: dict[str, Any]
    accepted_at: float
    done_at: float
    outcome: str
    error: str
    cost: float
    urls: list[str]
    found_at: float
    row_at: float
    hidden: bool
    life: int = -1
    stranger: bool = False

    def state_at(self, now: float) -> str:
        """What the server says of it."""
        if now >= self.done_at:
            return self.outcome
        return "QUEUED" if now < (self.accepted_at + self.done_at) / 2 else "PROCESSING"


@dataclass(slots=True)
class Server:
    """Accepts, works, charges and forgets as the weather has it."""

    weather: Weather
    now: float = 0.0
    calm: bool = False
    requests: dict[str, Request] = field(default_factory=dict)
    balance: float | None = None
    reset_at: float = 0.0
    log: Callable[[float, str], None] = lambda at, text: None
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)
    _arrivals: deque[float] = field(default_factory=deque)
    _rng: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        self._rng = Random(f"server {self.weather.seed}")
        self.balance = self.weather.credit
        for at, model, body in self.weather.strangers:
            self.at(at, lambda model=model, body=body: self._accept(model, body, STRANGER))  # type: ignore[misc]
        if self.balance is not None:
            self.at(self.weather.refill_at, self._refill)

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Something happens at a time, whoever is alive by then."""
        heapq.heappush(self._events, (when, next(self._numbers), event))

    def advance(self, to: float) -> None:
        """Lets happen what has happened by now."""
        while self._events and self._events[0][0] <= to:
            when, _, event = heapq.heappop(self._events)
            self.now = when
            event()
        self.now = to

    def own(self) -> list[Request]:
        """What was accepted from us."""
        return [request for request in self.requests.values() if not request.stranger]

    # What arrives.

    def submit(self, model: str, body: Mapping[str, Any], life: int) -> Answer:
        """A POST of one of our lives arrives."""
        if (limited := self.limited(is_get=False)) is not None:
            return limited
        wire, closes = self.weather.wire, self.weather.closes
        if closes is not None and model == closes[0] and self.now >= closes[1] and not self.calm:
            return self.answer(410, {"error": f"model {model} is retired"})
        if body.get("aspect_ratio") == "0:0":
            return self.answer(400, {"error": "aspect_ratio: 0:0 is not one of 1:1"})
        if self.balance is not None and self.balance <= 0:
            return self.answer(406, {"error": "Insufficient credits"})
        if self._luck(wire.refused):
            return self.answer(self._rng.choice((500, 503)), {"error": "try again"})
        if self._luck(wire.gateway):
            # A proxy gives up: behind it the job may have been started or not.
            if self._rng.random() < 0.5:
                self._accept(model, dict(body), life).hidden |= self.weather.history.denies
            status = self._rng.choice((502, 504, 504, 500))
            known = status == 504 and self._rng.random() < 0.5
            return self.answer(status, {"error": "upstream timed out"} if known else None)
        request = self._accept(model, dict(body), life)
        if self._luck(wire.garbage):
            broken = Answer(200, None, "the answer broke off", fault=Fault.UNREADABLE)
            return self._rng.choice((broken, self.answer(200, {"status": "QUEUED"})))
        return self.answer(
            self._rng.choice((200, 202)), {"request_id": request.id, "status": "QUEUED"}
        )

    def status(self, request_id: str) -> Answer:
        """A GET of a request's state arrives."""
        request, answer = self._asked(request_id)
        if request is None:
            return answer
        state = request.state_at(self.now)
        return self.answer(
            422 if state == "FAILED" else 200,
            {"status": state, "request_id": request.id, "metrics": {}}
            | ({"error": request.error} if state == "FAILED" else {}),
        )

    def result(self, request_id: str) -> Answer:
        """A GET of a request's result arrives."""
        request, answer = self._asked(request_id)
        if request is None:
            return answer
        state = request.state_at(self.now)
        if state == "FAILED":
            return self.answer(422, {"status": state, "error": request.error, "metrics": {}})
        # A 404 inside the hour can only be told from a loss by its end: it lags as replicas do.
        is_late = self.now < request.done_at + LAG_S or self.weather.wire.running_result != "404"
        if state == "COMPLETED" and not (is_late and self._luck(self.weather.wire.hesitant)):
            return self.answer(200, result_body(request))
        if (says := self.weather.wire.running_result) != "state":
            return self.answer(int(says), {"error": "the result is not there yet"})
        return self.answer(200, {"status": "PROCESSING", "request_id": request.id})

    def credits(self) -> Answer:
        """A GET of the balance arrives."""
        if (limited := self.limited(is_get=True)) is not None:
            return limited
        balance = 100.0 if self.balance is None else max(self.balance, 0.0)
        return self.answer(200, {"credits": balance, "free-credits": 0})

    def file(self, url: str) -> bytes | None:
        """The bytes of a file that is still kept."""
        request = self.requests.get(url.rsplit("/", 2)[-2])
        if request is None or self.now < request.done_at or not self.keeps(request):
            return None
        return b"\x00\x00\x00\x18ftypisom" + url.encode()

    def keeps(self, request: Request) -> bool:
        """Whether the request's files still live."""
        return self.now < request.done_at + FILE_LIFE_S

    def answer(self, status: int, body: Any = None, **headers: Any) -> Answer:
        """An answer with the server's own time in it."""
        server_time = float(int(EPOCH + self.now)) if self.weather.dated else None
        text = json.dumps(body) if body is not None else "an HTML page"
        return Answer(status, body, text[:300], server_time=server_time, **headers)

    # What happens inside.

    def _luck(self, share: float) -> bool:
        return not self.calm and self._rng.random() < share

    def _refill(self) -> None:
        self.balance = None

    def _accept(self, model: str, body: dict[str, Any], life: int) -> Request:
        known, rng, history = self.weather.models[model], self._rng, self.weather.history
        number = len(self.requests)
        request_id = f"r{number:03d}"
        done_at = self.now + rng.uniform(*known.queue_s) + rng.uniform(*known.work_s)
        fate, error, outcome = rng.random(), "", "COMPLETED"
        if fate < known.failing:
            outcome, error = "FAILED", f"internal error {number}"
        elif fate < known.failing + known.blocking:
            outcome, error = "FAILED", "the prompt was blocked by the content filter"
        # A replica lags for less than it takes to be asked four times.
        lag = rng.uniform(0.5, LAG_S) if self._luck(self.weather.wire.not_found) else 0.0
        late = rng.uniform(0.0, history.late_s) * self.weather.doubt_wait_s
        request = Request(
            request_id,
            model,
            body,
            self.now,
            done_at,
            outcome,
            error,
            known.cost if outcome == "COMPLETED" else 0.0,
            [f"https://media/{request_id}/{n}.mp4" for n in range(known.outputs)],
            self.now + lag,
            self.now + late,
            hidden=rng.random() < history.hides,
            life=life,
            stranger=life == STRANGER,
        )
        self.requests[request_id] = request
        if self.balance is not None:
            self.balance -= request.cost
        whose = "a stranger's" if request.stranger else "ACCEPTED"
        self.log(self.now, f"server: {whose} {request_id} {model} {body} done at {done_at:.1f}")
        return request

    def _asked(self, request_id: str) -> tuple[Request | None, Answer]:
        if (limited := self.limited(is_get=True)) is not None:
            return None, limited
        if self._luck(self.weather.wire.get_errors):
            return None, self.answer(self._rng.choice((500, 502, 503)))
        request = self.requests.get(request_id)
        if request and request.found_at <= self.now < request.accepted_at + RETENTION_S:
            return request, Answer(200)
        return None, self.answer(404, {"error": f"Request {request_id} not found"})

    def limited(self, is_get: bool) -> Answer | None:
        """A 429 when the account's rate is used up."""
        wire = self.weather.wire
        if wire.rpm is None or self.calm or (is_get and not wire.gets_count):
            return None
        window = self.now - WINDOW_S if wire.sliding else self.now // WINDOW_S * WINDOW_S
        while self._arrivals and self._arrivals[0] < window:
            self._arrivals.popleft()
        if len(self._arrivals) < wire.rpm:
            self._arrivals.append(self.now)
            return None
        reset = self._arrivals[0] + WINDOW_S if wire.sliding else window + WINDOW_S
        self.reset_at = reset
        return self.answer(429, {"error": "rate limited"}, **self._told(reset))

    def _told(self, reset: float) -> dict[str, str]:
        stamp = EPOCH + reset
        moment = datetime.fromtimestamp(int(stamp) + 1, UTC)
        forms: dict[str, dict[str, str]] = {
            "epoch": {"reset": f"{stamp:.0f}"},
            "ms": {"reset": f"{stamp * 1000:.0f}"},
            "iso": {"reset": moment.isoformat()},
            "http": {"reset": format_datetime(moment, usegmt=True)},
            "relative": {"reset": f"{reset - self.now:.0f}"},
            "retry-after": {"retry_after": f"{int(reset - self.now) + 1}"},
        }
        return forms.get(self.weather.wire.reset_form, {})


def result_body(request: Request) -> dict[str, Any]:
    """The body of a completed request."""
    output: Any = request.urls[0] if len(request.urls) == 1 else request.urls
    return {
        "status": "COMPLETED",
        "request_id": request.id,
        "output": output,
        "metrics": {"cost": request.cost, "total_time": request.done_at - request.accepted_at},
    }
