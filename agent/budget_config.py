"""The budgets' part of a run configuration: limits on each problem and on the run, and what things cost.

Knows nothing of how limits are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.config_section import ConfigError, Positive, PositiveFloat, Section
from sandbox.types import Budget, Prices

CHANGED_BY_RESUME = ("budget", "run_budget")
OF_A_PROBLEM = ("gpu_hour", "prompt_tokens_per_million", "completion_tokens_per_million")


class BudgetConfig(Section):
    """Limits on each problem's search; null is no limit. `usd` counts what has one of the `prices`."""

    samples: Positive | None = 16
    tokens: Positive | None = None
    judged: Positive | None = None
    gpu_seconds: PositiveFloat | None = None
    wall_seconds: PositiveFloat | None = None
    usd: PositiveFloat | None = None

    def limits(self) -> Budget:
        return Budget(**self.model_dump())


class RunBudgetConfig(BudgetConfig):
    """The same limits on all searches of the run together, over all its resumes."""

    samples: Positive | None = None


class PricesConfig(Section):
    """US dollars, for `usd`. None is assumed: null is not priced, and costs nothing.

    `gpu_hour` is of the GPU seconds that candidates are charged; `machine_hour` of the run's wall time, so it counts in
    `run_budget.usd` alone.
    """

    gpu_hour: PositiveFloat | None = None
    machine_hour: PositiveFloat | None = None
    prompt_tokens_per_million: PositiveFloat | None = None
    completion_tokens_per_million: PositiveFloat | None = None

    def prices(self) -> Prices:
        return Prices(**self.model_dump())


def mistake(budget: BudgetConfig, *, run_budget: RunBudgetConfig, prices: PricesConfig) -> str | None:
    """What is wrong with the three together, led by the key; None if nothing is."""
    if all(value is None for section in (budget, run_budget) for value in section.model_dump().values()):
        return "budget: every limit is null: set at least one, here or of run_budget"
    stated = prices.prices()
    if budget.usd is not None and not stated.of_a_problem.stated:
        return f"budget.usd: needs a price that a problem is charged: set one of {_keys(OF_A_PROBLEM)}"
    if run_budget.usd is not None and not stated.stated:
        return f"run_budget.usd: needs a price: set one of {_keys(PricesConfig.model_fields)}"
    return None


def check_resumable(overrides: Sequence[str]) -> None:
    """Raises ConfigError where a resume would change more of a run than its budgets."""
    for override in overrides:
        section, dot, _ = override.partition(".")
        if section not in CHANGED_BY_RESUME or not dot:
            told = " and ".join(f"{name}.*" for name in CHANGED_BY_RESUME)
            raise ConfigError(f"{override!r}: a run that is resumed keeps its configuration; allowed here: {told}")


def _keys(names: Iterable[str]) -> str:
    return ", ".join(f"prices.{name}" for name in names)
