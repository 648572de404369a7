"""A simulation's configuration, and what came of it: arms by budgets, with intervals over problems.

Knows nothing of the command line or of ledgers. Strategies are played by `strategies.simulator`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from agent.config import apply_override, read_mapping
from agent.config_section import ConfigError, Count, Positive, PositiveFloat, Section, one_line
from agent.resampling import Floats, Interval, bootstrap_means
from agent.strategy_config import StrategyConfig
from sandbox.types import Operator
from strategies import STRATEGIES
from strategies.simulator import NewStrategy, Trajectory, play
from strategies.world import Cost, World

CONFIDENCE = 0.95


def _refuse_unknown_keys(raw: object) -> object:
    """As sections do: of the world's records, plain dataclasses, pydantic does not tell what keys they know."""
    _refuse_in(raw, record=World, at="")
    return raw


def _refuse_in(raw: object, *, record: type[Any], at: str) -> None:
    if not isinstance(raw, Mapping):
        return
    types = get_type_hints(record)
    known = [item.name for item in fields(record)]
    for key, inner in raw.items():
        if key not in known:
            told = {"key": f"{at}{key}", "known": ", ".join(known)}
            raise PydanticCustomError("unknown_key", "unknown key {key}; known keys: {known}", told)
        if is_dataclass(types[key]):
            _refuse_in(inner, record=types[key], at=f"{at}{key}.")
        elif types[key] == Mapping[Operator, Cost] and isinstance(inner, Mapping):
            for operator, cost in inner.items():
                _refuse_in(cost, record=Cost, at=f"{at}{key}.{operator}.")


class SimulationConfig(Section):
    """What to play. `budgets` are limits on each problem, in `currency`. `against` names the arm that the others are
    compared with. `tune` is every arm's."""

    world: Annotated[World, BeforeValidator(_refuse_unknown_keys)]
    arms: Annotated[dict[str, StrategyConfig], Field(min_length=1)]
    against: str
    currency: Literal["samples", "tokens", "judged", "gpu_seconds", "wall_seconds"] = "tokens"
    budgets: Annotated[list[PositiveFloat], Field(min_length=1)]
    problems: Positive = 1000
    tune: Count = 0
    resamples: Positive = 2000
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _against_an_arm(self) -> Self:
        if self.against not in self.arms:
            context = {"against": self.against, "arms": ", ".join(self.arms)}
            raise PydanticCustomError("unbounded", "against is {against}, which is none of the arms {arms}", context)
        return self


def load_simulation(path: Path, overrides: Sequence[str]) -> SimulationConfig:
    """Raises ConfigError."""
    raw = read_mapping(path, known=SimulationConfig)
    for override in overrides:
        apply_override(raw, override)
    try:
        return SimulationConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error, section=SimulationConfig)}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm at one budget.

    `solved` is the share of problems with a pass, `log_speedup` the mean logarithm of the best speedup over all
    problems with 0 for the unsolved. The differences are to the arm compared with, problem by problem; None for that
    arm itself. `num_unspent` searches ended because their last answers took nothing of the budget.
    """

    arm: str
    budget: float
    solved: Interval
    log_speedup: Interval
    solved_difference: Interval | None
    log_speedup_difference: Interval | None
    mean_depth: float
    num_results: int
    num_unspent: int

    def to_json(self) -> dict[str, Any]:
        intervals = {
            "solved": self.solved,
            "speedup_over_all": self.log_speedup.mapped(np.exp),
            "solved_difference": self.solved_difference,
            "speedup_ratio": None
            if self.log_speedup_difference is None
            else self.log_speedup_difference.mapped(np.exp),
        }
        told = {name: None if i is None else [i.value, i.low, i.high] for name, i in intervals.items()}
        counts = {"mean_depth": self.mean_depth, "unspent": self.num_unspent}
        return {"arm": self.arm, "budget": self.budget, **told, **counts}


def order(config: SimulationConfig) -> list[str]:
    """In which arms are played."""
    return sorted(config.arms, key=lambda arm: arm != config.against)


def simulate(config: SimulationConfig) -> Iterator[list[Cell]]:
    """One arm after the other, the one compared with first; each at all budgets."""
    base: Outcomes | None = None
    for arm in order(config):
        outcomes = Outcomes.of(played(config, arm=arm), config=config)
        base = outcomes if base is None else base
        yield cells(outcomes, arm=arm, base=base, config=config)


def played(config: SimulationConfig, *, arm: str) -> list[Trajectory]:
    """One search on each problem, with the largest budget: what a smaller one gives is a prefix of it."""
    strategy = config.arms[arm]
    return [
        play(
            config.world,
            problem_number=number,
            new_strategy=_new_strategy(strategy, tune=config.tune),
            limits={config.currency: max(config.budgets)},
            in_flight=strategy.in_flight,
            seed=config.seed,
        )
        for number in range(config.problems)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What an arm reached, problems × budgets."""

    solved: Floats
    log_speedup: Floats
    depths: tuple[float, ...]  # means over the problems' results, by budget
    num_results: int
    num_unspent: int

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory], *, config: SimulationConfig) -> Outcomes:
        best = np.array([[t.best_at(config.currency, limit=b) for b in config.budgets] for t in trajectories])
        depths = []
        for budget in config.budgets:
            within = [s.depth for t in trajectories for s in t.steps if getattr(s.used, config.currency) <= budget]
            depths.append(sum(within) / len(within) if within else 0.0)
        return cls(
            solved=(best > 0).astype(np.float64),
            log_speedup=np.log(np.where(best > 0, best, 1.0)),
            depths=tuple(depths),
            num_results=sum(len(t.steps) for t in trajectories),
            num_unspent=sum(t.unspent for t in trajectories),
        )


def cells(outcomes: Outcomes, *, arm: str, base: Outcomes, config: SimulationConfig) -> list[Cell]:
    intervals = partial(bootstrap_means, seed=config.seed, resamples=config.resamples, confidence=CONFIDENCE)
    solved, speedup = intervals(outcomes.solved), intervals(outcomes.log_speedup)
    others: list[tuple[Interval | None, Interval | None]] = [(None, None)] * len(config.budgets)
    if arm != config.against:
        differences = intervals(outcomes.solved - base.solved), intervals(outcomes.log_speedup - base.log_speedup)
        others = list(zip(*differences, strict=True))
    return [
        Cell(
            arm=arm,
            budget=budget,
            solved=solved[index],
            log_speedup=speedup[index],
            solved_difference=others[index][0],
            log_speedup_difference=others[index][1],
            mean_depth=outcomes.depths[index],
            num_results=outcomes.num_results,
            num_unspent=outcomes.num_unspent,
        )
        for index, budget in enumerate(config.budgets)
    ]


def _new_strategy(config: StrategyConfig, *, tune: int) -> NewStrategy:
    options = config.model_dump(exclude={"name"})
    if "tune" in options:
        options["tune"] = tune
    return lambda seed: STRATEGIES[config.name](seed=seed, **options)
