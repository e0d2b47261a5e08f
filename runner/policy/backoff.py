"""How long to wait before the next try."""

from __future__ import annotations

from random import Random

BASE_S = 1.0
CAP_S = 60.0


def full_jitter(attempt: int, rng: Random, base_s: float = BASE_S, cap_s: float = CAP_S) -> float:
    """Seconds to wait after the `attempt`-th failure (from 1): clamped first, then jittered.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """
    # The exponent is bounded because 2.0**1024 overflows after a long outage.
    ceiling_s = min(cap_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 32))
    return rng.uniform(0.0, ceiling_s)
