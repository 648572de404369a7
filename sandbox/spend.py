"""What work costs: what was used, its limits, and its price.

Knows nothing of who spends, or of when something is charged.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

MILLION = 1e6
SECONDS_AN_HOUR = 3600.0
# So many answers of a model in a row that took nothing of what bounds a search end it: it would never reach a limit.
MAX_UNSPENT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What was used. `Budget` has the same names but `completion_tokens`, which are the share of `tokens` that a model
    wrote: they have a price of their own. What it came to in money is `Prices.usd`."""

    samples: int = 0
    tokens: int = 0
    completion_tokens: int = 0
    judged: int = 0
    gpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise ValueError(f"spend.{name} must not be negative")
        if self.completion_tokens > self.tokens:
            raise ValueError(f"of {self.tokens} tokens, {self.completion_tokens} cannot be completions'")

    def __add__(self, other: Spend) -> Spend:
        return Spend(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars, as whoever pays has stated them. None is not priced, and costs nothing.

    `gpu_hour` is for the GPU seconds that candidates are charged, `machine_hour` for the wall time of the run.
    """

    gpu_hour: float | None = None
    machine_hour: float | None = None
    prompt_tokens_per_million: float | None = None
    completion_tokens_per_million: float | None = None

    @property
    def of_a_problem(self) -> Prices:
        """What one problem of several is charged for: the machine's time is the run's, whichever problems share it."""
        return Prices(
            gpu_hour=self.gpu_hour,
            prompt_tokens_per_million=self.prompt_tokens_per_million,
            completion_tokens_per_million=self.completion_tokens_per_million,
        )

    @property
    def stated(self) -> bool:
        return any(getattr(self, item.name) is not None for item in fields(self))

    def usd(self, spend: Spend) -> float | None:
        """None where no price is stated: what it cost is not known."""
        if not self.stated:
            return None
        return (
            (self.gpu_hour or 0.0) * spend.gpu_seconds / SECONDS_AN_HOUR
            + (self.machine_hour or 0.0) * spend.wall_seconds / SECONDS_AN_HOUR
            + (self.prompt_tokens_per_million or 0.0) * (spend.tokens - spend.completion_tokens) / MILLION
            + (self.completion_tokens_per_million or 0.0) * spend.completion_tokens / MILLION
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on a search, or on a whole run. None is no limit."""

    samples: int | None = None
    tokens: int | None = None
    judged: int | None = None
    gpu_seconds: float | None = None
    wall_seconds: float | None = None
    usd: float | None = None

    def reached_by(self, spend: Spend, *, prices: Prices, but: Collection[str] = ()) -> str | None:
        """The name of the first limit that `spend` has reached, leaving out those named by `but`; None if none is."""
        for item in fields(self):
            limit = getattr(self, item.name)
            if limit is None or item.name in but:
                continue
            used = amount(item.name, spend, prices=prices)
            if used is not None and used >= limit:
                return item.name
        return None


def amount(currency: str, spend: Spend, *, prices: Prices) -> int | float | None:
    """How much of a currency of `Budget` was spent; None where that has no price."""
    if currency == "usd":
        return prices.usd(spend)
    used: int | float = getattr(spend, currency)
    return used
