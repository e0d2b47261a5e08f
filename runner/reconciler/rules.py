"""What the reconciler is told and what it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from runner.job import StepResult
from runner.ledger import Record


@dataclass(frozen=True, slots=True)
class DoubtRules:
    """How doubt is treated; times in seconds."""

    on_doubt: Literal["reconcile", "hold", "resubmit"]
    on_expired: Literal["recover", "hold", "resubmit"]
    wait_s: float
    timeout_s: float
    retention_s: float


# Told of a job that the history or a rule has moved, before anything else may move it.
Report = Callable[[Record, StepResult], Awaitable[None]]
