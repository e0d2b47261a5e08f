"""Whether there is money for another job: what was spent, and what is reserved for what is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# Costs of one model differ with its parameters: a dearer job counts at once, cheaper ones little by little.
WEIGHT = 0.1
# A limit of $0.40 is ten jobs of $0.04, whatever floating point makes of the sum.
CENT_FRACTION = 1e-6


class Budget:
    """A run's money in US dollars. A model whose price nobody knows goes one job at a time.

    `prices`: what a job of a model is known to cost. `limit` None: only the estimate is kept.
    """

    def __init__(self, limit: float | None, prices: Mapping[str, float]) -> None:
        self.limit = limit
        self.spent = 0.0
        self._prices = dict(prices)
        self._open: dict[int, str] = {}

    def price(self, model: str) -> float | None:
        """What a job of the model is expected to cost."""
        return self._prices.get(model)

    @property
    def reserved(self) -> float:
        """What the open jobs are expected to cost."""
        if self.limit is None:
            return 0.0
        counts = Counter(self._open.values())
        return sum(self._prices.get(model, 0.0) * count for model, count in counts.items())

    def allows(self, model: str) -> bool:
        """Whether one more job of the model keeps to the limit."""
        if self.limit is None:
            return True
        price = self._prices.get(model)
        committed = self.spent + self.reserved
        if price is None:
            return model not in self._open.values() and committed < self.limit
        return committed + price <= self.limit + CENT_FRACTION

    def reserve(self, key: int, model: str) -> None:
        """This job is about to be sent, or may have been."""
        self._open[key] = model

    def settle(self, key: int, model: str, cost: float | None) -> None:
        """This job's outcome is known; `cost` None when it cost nothing or was never accepted."""
        self._open.pop(key, None)
        if cost is None:
            return
        self.spent += cost
        known = self._prices.get(model, cost)
        self._prices[model] = max(cost, known + WEIGHT * (cost - known))
