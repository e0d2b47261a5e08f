"""What goes wrong in a night, drawn from its seed: plain values, so that a night can be told again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RETENTION_S = 600.0
TIMEOUT_S = 15.0
FILE_LIFE_S = 7 * 86400.0
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Model:
    """How a model works: seconds in the queue and at work, and shares of unlucky outcomes."""

    slug: str
    queue_s: tuple[float, float]
    work_s: tuple[float, float]
    failing: float
    blocking: float
    outputs: int
    cost: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The API does not answer; `kind`: refuse, silence, 502 or 503."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True, slots=True)
class Wire:
    """Shares of requests that meet a fault, and how the server's rate is told.

    `running_result`: what the result route says of a job that still runs; state, 404, 400 or 500.
    """

    slow: float = 0.0
    lost: float = 0.0
    never_left: float = 0.0
    refused: float = 0.0
    gateway: float = 0.0
    garbage: float = 0.0
    get_errors: float = 0.0
    not_found: float = 0.0
    hesitant: float = 0.0
    running_result: str = "state"
    media_errors: float = 0.0
    rpm: int | None = None
    sliding: bool = True
    gets_count: bool = True
    reset_form: str = "epoch"
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """How the request history behaves. `mends`: its troubles are over in the last calm run."""

    same_host: bool = False
    late_s: float = 0.0
    slow_s: float = 0.0
    page: int = 100
    envelope: str = "data"
    body_form: str = "object"
    timeless: bool = False
    hides: float = 0.0
    denies: bool = False
    down: tuple[tuple[float, float], ...] = ()
    blind: tuple[tuple[float, float], ...] = ()
    mends: bool = True

    @property
    def tells(self) -> bool:
        """Whether, sooner or later, it shows every request as it was."""
        is_whole = not (self.hides or self.denies or self.timeless)
        return self.mends and is_whole and self.body_form in PLAIN_BODIES


PLAIN_BODIES = ("object", "text", "floats")


@dataclass(frozen=True, slots=True)
class Death:
    """How a life ends before its work does; `kind`: none, step, commit, point, drain or stop."""

    kind: str = "none"
    number: int = 0
    after: bool = False
    point: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the command: its options, how it ends and how long nobody runs it again.

    `set_s`: by how much our clock is set before it; `jumps`: when it is set in it and by how much;
    `sleeps`: when the computer goes to sleep and for how long. Seconds since the life began.
    """

    concurrency: int = 8
    rpm: int | None = None
    limit: int | None = None
    budget: float | None = None
    on_doubt: str = "reconcile"
    on_expired: str = "recover"
    wait_for_credits: bool = False
    poll: str = "auto"
    death: Death = Death()
    pause_s: float = 1.0
    skew_s: float = 0.0
    set_s: float = 0.0
    jumps: tuple[tuple[float, float], ...] = ()
    sleeps: tuple[tuple[float, float], ...] = ()
    retries: tuple[str, ...] = ()
    loses_files: bool = False


@dataclass(frozen=True, slots=True)
class Weather:
    """A whole night."""

    seed: int
    jobs: tuple[tuple[str, str, dict[str, Any]], ...]
    models: dict[str, Model]
    wire: Wire
    history: History
    lives: tuple[Life, ...]
    doubt_wait_s: float
    skew_s: float
    dated: bool
    credit: float | None
    refill_at: float
    closes: tuple[str, float] | None
    strangers: tuple[tuple[float, str, dict[str, Any]], ...]
    attempts: int = 4
    breaker: int = 10
    disk: str = "quick"

    @property
    def jumps(self) -> bool:
        """Whether our clock is ever set."""
        return any(life.set_s or life.jumps for life in self.lives)
