"""A stated model of problems, models and judges, in which strategies are played without any of them.

Knows nothing of strategies, clocks or files; every figure is handed in. What is stated is a simplification, and what a
strategy gains in it is gained under its assumptions alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sandbox.types import Operator, Status
from strategies.behaviour import STYLES

FORBID_UNKNOWN = {"extra": "forbid"}  # for whoever reads these records from a file


def _shares(name: str, shares: Mapping[Status, float]) -> None:
    if not all(0.0 <= share <= 1.0 for share in shares.values()):
        raise ValueError(f"{name} must lie in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """A problem is impossible with chance `impossible`; else a draft passes with a chance from Beta(alpha, beta)."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    alpha: float
    beta: float
    impossible: float

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0 and 0 <= self.impossible <= 1):
            raise ValueError("difficulty needs alpha > 0, beta > 0 and impossible in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repairs:
    """What a repair is worth, in independent drafts: it passes with chance 1 - (1 - p) ** worth, where p is a draft's.

    So an impossible problem stays so, and a worth above one says that repairing beats drawing again. `worth` goes by
    the failure's status, `decay` multiplies it for every repair before in the chain. A repair that fails keeps its
    status with chance `keeps`, else it fails as a draft does.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    worth: Mapping[Status, float]
    decay: float
    keeps: float

    def __post_init__(self) -> None:
        if any(worth < 0 for worth in self.worth.values()) or not (0 <= self.decay <= 1 and 0 <= self.keeps <= 1):
            raise ValueError("repairs need worth >= 0, decay and keeps in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixes:
    """`share` of a status's failures have a finding with a replacement; mended they pass as if worth `worth` drafts."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    share: Mapping[Status, float]
    worth: float

    def __post_init__(self) -> None:
        _shares("fixes.share", self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Natural logarithms of speedups, all normal: `typical` over all passing drafts, `between` problems, between the
    `num_styles` styles of a problem, `within` a style; `noise` of a measurement."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    typical: float
    between: float
    num_styles: int
    between_styles: float
    within: float
    noise: float

    def __post_init__(self) -> None:
        if not 1 <= self.num_styles <= len(STYLES):
            raise ValueError(f"speeds.num_styles must be 1 to {len(STYLES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What comes of a passing parent at x, where its style's typical is m (both logarithms of speedups): with chance
    `breaks` a failure, else m + keeps * (x - m) + gain + a normal of `spread`. `keeps` below one is regression to the
    mean. With chance `new_style` another style is taken first."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    gain: float
    spread: float
    keeps: float
    breaks: float
    new_style: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Means of what one proposal of an operator takes; times are exponentially distributed, tokens are as stated."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that is stated.

    `failures` are weights of a failed draft's statuses. `costs` has every operator, `judge_seconds` is the mean of a
    verdict's, `gpu_seconds` what judging one pass takes of the GPU, `failed_gpu_seconds` one failure, by status; 0 for
    those left out, which never reach it.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = FORBID_UNKNOWN
    difficulty: Difficulty
    failures: Mapping[Status, float]
    repairs: Repairs
    fixes: Fixes
    speeds: Speeds
    improve: Refinement
    merge: Refinement
    tune: Refinement
    costs: Mapping[Operator, Cost]
    judge_seconds: float
    gpu_seconds: float
    failed_gpu_seconds: Mapping[Status, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := sorted(set(Operator) - set(self.costs)):
            raise ValueError(f"costs lacks {', '.join(missing)}")
        weights = self.failures.values()
        if Status.PASSED in self.failures or any(weight < 0 for weight in weights) or not sum(weights) > 0:
            raise ValueError("failures must weigh statuses other than passed, none below 0 and one above 0 at least")
        happens = {status for status, weight in self.failures.items() if weight > 0}
        if unknown := sorted(happens - set(self.repairs.worth)):
            raise ValueError(f"repairs.worth lacks {', '.join(unknown)}")
        if Status.PASSED in self.failed_gpu_seconds or any(not cost >= 0 for cost in self.failed_gpu_seconds.values()):
            raise ValueError("failed_gpu_seconds must be of statuses other than passed, and none below 0")

    def gpu_seconds_of(self, status: Status) -> float:
        return self.gpu_seconds if status is Status.PASSED else self.failed_gpu_seconds.get(status, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What is true of one simulated program. `log_speed` is None unless it passes."""

    status: Status
    style: int
    log_speed: float | None
    num_repairs: int
    fixable: bool
    depth: int  # steps from the problem


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticProblem:
    """One problem of a world: the chance that a draft passes, and each style's typical logarithm of a speedup."""

    number: int
    pass_chance: float
    typical: tuple[float, ...]

    @classmethod
    def drawn(cls, world: World, *, number: int, rng: random.Random) -> SyntheticProblem:
        difficulty, speeds = world.difficulty, world.speeds
        impossible = rng.random() < difficulty.impossible
        chance = rng.betavariate(difficulty.alpha, difficulty.beta)
        centre = rng.gauss(speeds.typical, speeds.between)
        typical = tuple(rng.gauss(centre, speeds.between_styles) for _ in range(speeds.num_styles))
        return cls(number=number, pass_chance=0.0 if impossible else chance, typical=typical)

    def outcome(self, operator: Operator, *, parents: tuple[Hidden, ...], world: World, rng: random.Random) -> Hidden:
        """What an operator makes of `parents`."""
        match operator:
            case Operator.DRAFT:
                return self._attempt(1.0, parent=None, world=world, rng=rng)
            case Operator.REPAIR:
                repairs = world.repairs
                worth = repairs.worth.get(parents[0].status, 0.0) * repairs.decay ** parents[0].num_repairs
                return self._attempt(worth, parent=parents[0], world=world, rng=rng)
            case Operator.FIX:
                return self._attempt(world.fixes.worth, parent=parents[0], world=world, rng=rng)
            case Operator.IMPROVE:
                return self._refined(world.improve, parent=parents[0], world=world, rng=rng)
            case Operator.TUNE:
                return self._refined(world.tune, parent=parents[0], world=world, rng=rng)
            case Operator.MERGE:
                better = max(parents[:2], key=lambda parent: parent.log_speed or 0.0)
                return self._refined(world.merge, parent=better, world=world, rng=rng)

    def _attempt(self, worth: float, *, parent: Hidden | None, world: World, rng: random.Random) -> Hidden:
        style = rng.randrange(len(self.typical)) if parent is None else parent.style
        if rng.random() < 1.0 - (1.0 - self.pass_chance) ** worth:
            log_speed = rng.gauss(self.typical[style], world.speeds.within)
            return self._passed(log_speed, style=style, parent=parent)
        return self._failed(style=style, parent=parent, world=world, rng=rng)

    def _refined(self, how: Refinement, *, parent: Hidden, world: World, rng: random.Random) -> Hidden:
        if rng.random() < how.breaks:
            return self._failed(style=parent.style, parent=parent, world=world, rng=rng)
        style = rng.randrange(len(self.typical)) if rng.random() < how.new_style else parent.style
        above = (parent.log_speed or 0.0) - self.typical[parent.style]
        log_speed = self.typical[style] + how.keeps * above + how.gain + rng.gauss(0.0, how.spread)
        return self._passed(log_speed, style=style, parent=parent)

    def _passed(self, log_speed: float, *, style: int, parent: Hidden | None) -> Hidden:
        depth = 1 if parent is None else parent.depth + 1
        return Hidden(status=Status.PASSED, style=style, log_speed=log_speed, num_repairs=0, fixable=False, depth=depth)

    def _failed(self, *, style: int, parent: Hidden | None, world: World, rng: random.Random) -> Hidden:
        status = rng.choices(list(world.failures), list(world.failures.values()))[0]
        failed_before = parent is not None and parent.status is not Status.PASSED
        if parent is not None and failed_before and rng.random() < world.repairs.keeps:
            status = parent.status
        return Hidden(
            status=status,
            style=style,
            log_speed=None,
            num_repairs=parent.num_repairs + 1 if parent is not None and failed_before else 0,
            fixable=rng.random() < world.fixes.share.get(status, 0.0),
            depth=1 if parent is None else parent.depth + 1,
        )


def speedup_of(log_speed: float | None) -> float:
    """0 for what does not pass."""
    return 0.0 if log_speed is None else math.exp(log_speed)
