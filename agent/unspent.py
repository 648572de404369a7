"""Whether a search still spends anything of what bounds it: one whose candidates never reach the GPU never comes to a
limit on GPU seconds.

Pure: knows nothing of strategies or of ledgers. The same results give the same count, live and in a replay.
"""

from __future__ import annotations

from agent.sampler import WITHOUT_MODEL
from sandbox.spend import amount
from sandbox.types import MAX_UNSPENT, Budget, Operator, Prices, Spend

TOLD = f"nothing of its budget spent by the last {MAX_UNSPENT} answers"


class UnspentCount:
    """Answers of a model in a row that took nothing of any limited currency. What asks no model is bounded by itself.

    Time passes by itself: where it is limited, or priced, nothing is counted.
    """

    def __init__(self, budget: Budget, *, run_budget: Budget, prices: Prices) -> None:
        """`prices` are the run's."""
        limited = [
            currency
            for currency in Budget.__slots__
            if getattr(budget, currency) is not None or getattr(run_budget, currency) is not None
        ]
        by_time = "wall_seconds" in limited or (run_budget.usd is not None and prices.machine_hour is not None)
        self._currencies = () if by_time else tuple(limited)
        self._prices = prices.of_a_problem
        self._count = 0

    def spent(self, before: Spend, now: Spend) -> None:
        """What the search had spent before a result, and has with it."""
        for currency in self._currencies:
            if amount(currency, before, prices=self._prices) != amount(currency, now, prices=self._prices):
                self._count = 0

    def answered(self, operator: Operator) -> None:
        """The strategy was told what came of a proposal."""
        self._count += operator not in WITHOUT_MODEL

    @property
    def too_many(self) -> bool:
        return bool(self._currencies) and self._count >= MAX_UNSPENT

    @property
    def text(self) -> str:
        return f"{TOLD} ({', '.join(self._currencies)})"
