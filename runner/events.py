"""What a run tells whoever watches it; values only, so that any display can be built on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from runner.job import State


class Call(StrEnum):
    """The kinds of request that count against the account's rate."""

    SUBMIT = "submit"
    STATUS = "status"
    RESULT = "result"
    HISTORY = "history"
    CREDITS = "credits"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Moved:
    """A job went from one state to another, and the ledger has it. `cost` in US dollars.

    `count` jobs at once where they move for one reason; `job_id` is empty then.
    """

    job_id: str
    manifest: str
    model: str
    before: State
    after: State
    cost: float | None = None
    reason: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Answered:
    """A request was answered, or not (`status` None)."""

    call: Call
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing is sent to the API before `until` (epoch seconds)."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Draining:
    """No new submits from here on; what is in flight is finished."""

    reason: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a person should read once. `warning` asks for attention, `pause`: nothing goes on."""

    text: str
    warning: bool = False
    pause: bool = False


@dataclass(slots=True)
class Ending:
    """Why a run ended before all was done, if it did."""

    stopped: str | None = None
    key_refused: bool = False


Event = Moved | Answered | Held | Draining | Noted
Observer = Callable[[Event], None]
