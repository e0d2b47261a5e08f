"""What a sandbox is asked to be like: fast or slow, generous or strict, kind or broken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.sandbox.latency import Latency, Lognormal

ResetFormat = Literal["epoch", "epoch_ms", "iso", "http"]

_USUAL_LATENCY = Lognormal(1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything about a sandbox that can be chosen; all times in seconds, all money in USD.

    rpm: requests per rate window; None is unlimited. `window_s` is the length of the windows: fixed
        ones start at multiples of it, `sliding` ones end at each request. `count_polls` tells whether
        polls use the rate up.
    retention_s: status and result are gone this long after the SUBMIT; media this long
        (`media_retention_s`) after the job was finished.
    credits: the balance at the start; None is plenty. `cost` is charged when a job completes.
    fail_rate, block_rate: share of jobs that end FAILED, by a defect or by the content filter.
    lost_answers: share of POSTs that are accepted and billed, but never answered.
    error_rate: share of all calls that are answered 500, 502 or 503.
    history_delay_s: how late rows land in the request history. `history_rpm` is its own limit.
    key: the only key accepted; None accepts any that looks like one.
    journal: a JSON Lines file; a sandbox started on it again remembers what it accepted.
    clock_skew_s: how far the server's clock is ahead.
    slow_s, hang_s, drip_s: how long a slow answer, a hanging one and a dripping download take.
    picture_px: long side of a picture; small ones make room for more requests per second.
    """

    latency: Latency = _USUAL_LATENCY
    rpm: int | None = None
    window_s: float = 60.0
    sliding: bool = False
    retention_s: float = 3600.0
    media_retention_s: float = 7 * 86400.0
    credits: float | None = None
    cost: float = 0.04
    fail_rate: float = 0.0
    block_rate: float = 0.0
    lost_answers: float = 0.0
    error_rate: float = 0.0
    history_delay_s: float = 0.0
    history: Literal["on", "down", "empty"] = "on"
    history_rpm: int | None = 600
    key: str | None = None
    seed: int = 0
    journal: Path | None = None
    count_polls: bool = True
    clock_skew_s: float = 0.0
    reset_format: ResetFormat = "iso"
    slow_s: float = 30.0
    hang_s: float = 120.0
    drip_s: float = 20.0
    picture_px: int = 640

    def __post_init__(self) -> None:
        for name in ("fail_rate", "block_rate", "lost_answers", "error_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name):g}")
        if self.fail_rate + self.block_rate > 1.0:
            raise ValueError("fail_rate and block_rate together are more than 1")
        if self.window_s <= 0:
            raise ValueError(f"window_s must be above 0, not {self.window_s:g}")
