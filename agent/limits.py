"""Which limits a run has come to, and by how much what was in flight went over them.

Pure: knows nothing of ledgers, nor of how a limit is held while a run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.spend import amount
from sandbox.types import Budget, Prices, Spend

WORDS = {"gpu_seconds": "GPU seconds", "wall_seconds": "wall seconds", "usd": "US dollars"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached:
    """A limit of the run, and what was spent of its currency."""

    currency: str
    limit: int | float
    spent: int | float

    @property
    def overshoot(self) -> int | float:
        """It was asked for before the limit was reached, and came in after."""
        return max(self.spent - self.limit, 0)

    @property
    def text(self) -> str:
        """In one line, without a stop."""
        told = f"{currency_text(self.currency)} of the run {number_text(self.limit)}; spent {number_text(self.spent)}"
        # What is confirmed takes the run's time, which may have a price, and nothing else of its budget.
        timed = self.currency in ("wall_seconds", "usd")
        late = "went to what was in flight or confirmed" if timed else "were in flight"
        over = f", of which {number_text(self.overshoot)} {late}" if self.overshoot else ""
        return f"limit reached: {told}{over}"

    def to_json(self) -> dict[str, Any]:
        return {"currency": self.currency, "limit": self.limit, "spent": self.spent, "in_flight": self.overshoot}


def limits_reached(run_budget: Budget, spend: Spend, *, prices: Prices) -> tuple[LimitReached, ...]:
    """The limits of the run that what is spent has come to, whether searches ended by them or, at the same time, by
    another."""
    found = []
    for currency in Budget.__slots__:
        limit, spent = getattr(run_budget, currency), amount(currency, spend, prices=prices)
        if limit is None or spent is None:
            continue
        # The same figures added up in another order differ in the last digits.
        if spent >= limit or math.isclose(spent, limit, rel_tol=1e-9):
            found.append(LimitReached(currency=currency, limit=limit, spent=spent))
    return tuple(found)


def over_budget(budget: Budget, spend: Spend, *, prices: Prices) -> dict[str, int | float]:
    """What one problem spent beyond its limits, by currency: it was in flight when they were reached."""
    found = {}
    for currency in Budget.__slots__:
        limit, spent = getattr(budget, currency), amount(currency, spend, prices=prices)
        if limit is not None and spent is not None and spent > limit:
            found[currency] = spent - limit
    return found


def overshoot_lines(budget: Budget, spends: Mapping[str, Spend], *, prices: Prices) -> Iterator[str]:
    """A line for each limit on problems that some of them, by id, went over."""
    over = {problem_id: over_budget(budget, spend, prices=prices) for problem_id, spend in spends.items()}
    for currency in Budget.__slots__:
        by_most = sorted((-found[currency], problem_id) for problem_id, found in over.items() if currency in found)
        if by_most:
            most, problem_id = by_most[0]
            limit = getattr(budget, currency)
            told = f"{len(by_most)} of {len(spends)} spent more, {problem_id} the most: {number_text(limit - most)}"
            words = f"{currency_text(currency)} of each problem {number_text(limit)}"
            yield f"limit passed: {words}; {told}, of which {number_text(-most)} were in flight"


def too_small(before: Budget, now: Budget, *, section: str, spends: Mapping[str, Spend], prices: Prices) -> str | None:
    """Why a budget that is `now` in place of the one `before` is no use: less than what is spent. `spends` are by who
    spent it. None where it is of use."""
    for currency in Budget.__slots__:
        limit, earlier = getattr(now, currency), getattr(before, currency)
        if limit is None or (earlier is not None and limit >= earlier):
            continue
        for who, spend in spends.items():
            spent = amount(currency, spend, prices=prices)
            if spent is not None and spent > limit:
                told = f"{number_text(limit)} is less than what {who} has spent already, {number_text(spent)}"
                return f"{section}.{currency}: {told}"
    return None


def currency_text(currency: str) -> str:
    return WORDS.get(currency, currency)


def number_text(value: int | float) -> str:
    """1,204; 3.5; 0.0213."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if value >= 100 else f"{value:.4g}"
