"""The values that travel through the house: what a job is and which ways it can go.

    pending → submitting → submitted → completed → saved

and, short of it, failed, blocked, invalid, expired and in_doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job stands; the text is what users see and scripts read."""

    PENDING = "pending"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    SAVED = "saved"
    FAILED = "failed"
    BLOCKED = "blocked"
    INVALID = "invalid"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"


IN_FLIGHT_STATES = frozenset({State.SUBMITTING, State.SUBMITTED})
"""The API may be working on them; `run.concurrency` bounds their number."""

TERMINAL_STATES = frozenset(
    {State.SAVED, State.FAILED, State.BLOCKED, State.INVALID, State.EXPIRED, State.IN_DOUBT}
)
"""Nothing more happens to them in a run unless a user or the history says so."""

RETRYABLE_STATES = frozenset(
    {State.FAILED, State.BLOCKED, State.INVALID, State.EXPIRED, State.IN_DOUBT}
)
"""What `runner retry` puts back to pending."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # FAILED: its model was stopped before the job was sent.
    State.PENDING: frozenset({State.SUBMITTING, State.FAILED}),
    # PENDING: the POST provably never left, or was refused and is sent again later.
    State.SUBMITTING: frozenset(
        {State.SUBMITTED, State.PENDING, State.IN_DOUBT, State.INVALID, State.FAILED}
    ),
    State.SUBMITTED: frozenset({State.COMPLETED, State.FAILED, State.BLOCKED, State.EXPIRED}),
    # EXPIRED: the media are gone for good. FAILED: the result holds nothing.
    State.COMPLETED: frozenset({State.SAVED, State.EXPIRED, State.FAILED}),
    # COMPLETED: a file was deleted and is fetched again.
    State.SAVED: frozenset({State.COMPLETED}),
    State.FAILED: frozenset({State.PENDING}),
    State.BLOCKED: frozenset({State.PENDING}),
    State.INVALID: frozenset({State.PENDING}),
    # What the history or a still living file brings back.
    State.EXPIRED: frozenset(
        {State.PENDING, State.COMPLETED, State.SAVED, State.FAILED, State.BLOCKED}
    ),
    State.IN_DOUBT: frozenset(
        {State.PENDING, State.SUBMITTED, State.COMPLETED, State.FAILED, State.BLOCKED}
    ),
}
"""Every move a job may make; the ledger refuses all others."""


@dataclass(frozen=True, slots=True)
class Job:
    """One wanted result as its manifest describes it.

    `output` is the name of its file relative to the output directory, with `{n}` and `{ext}`
    still open as format fields; `source` is the `file:line` it was read from. `inputs` has the sha256
    of each file by its name; in `params` it stands as `{"sha256": …}`: names are no part of the request.
    """

    id: str
    manifest: str
    model: str
    params: Mapping[str, Any]
    index: int = 0
    repeat: int = 0
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    output: str = "{id}.{ext}"
    source: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that happened to a job: when, what, the HTTP status if any, and why."""

    at: float
    action: str
    status: int | None = None
    detail: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class SavedFile:
    """One file of a job: `path` is relative to the output directory and None until it is there.

    `received_sha256`: what it came as, where something was added to it before it was saved.
    """

    n: int
    url: str | None
    path: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None
    received_sha256: str | None = None


class Fault(StrEnum):
    """Why a request brought no answer that could be read."""

    # Refused connection, DNS, TLS: it may be sent again.
    NEVER_LEFT = "never left"
    NO_ANSWER = "no answer"
    UNREADABLE = "unreadable answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request, or the fault that came instead.

    `body` is the decoded JSON or None; `text` a short excerpt of what came, for messages; the key is
    redacted in both. `reset` and `retry_after` are the headers of a 429 as they came; `server_time`
    is the `Date` header in epoch seconds; `seconds` how long it took.
    """

    status: int | None
    body: Any = None
    text: str = ""
    fault: Fault | None = None
    reset: str | None = None
    retry_after: str | None = None
    server_time: float | None = None
    seconds: float = 0.0


class Consequence(StrEnum):
    """What a step asks of the run as a whole; only the engine acts on it."""

    NONE = "none"
    STOP_MODEL = "stop the model"
    PAUSE = "pause the run"
    OUT_OF_CREDITS = "out of credits"
    KEY_REFUSED = "key refused"


@dataclass(frozen=True, slots=True)
class StepResult:
    """Where a step left its job; `again_at` (epoch seconds) when it wants the job back.

    `state` None: the job was no longer the step's to move, and nothing happened. `sent`: under which id
    the API took it, when it was sent and when the API forgets it. `paid_perhaps`: it is to be sent again
    although its last request may have been accepted.
    """

    state: State | None
    again_at: float | None = None
    consequence: Consequence = Consequence.NONE
    reason: str = ""
    cost: float | None = None
    sent: tuple[str, float, float] | None = None
    paid_perhaps: bool = False
