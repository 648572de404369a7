"""An experiment's definition: arms × seeds on the problems of one run configuration, at one budget in one currency.

Knows nothing of how it is carried out. Everything is checked here before anything starts; what two definitions differ
in is told by key.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from agent.budget_config import BudgetConfig
from agent.config import RunConfig, apply_override, config_of, read_mapping
from agent.config_section import ConfigError, Count, Positive, PositiveFloat, Section, one_line

ARM_KEYS = ("strategy", "sampler")  # what an arm may differ in
ARM_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
KINDS = frozenset({"name", "kind"})  # a section that names its kind stands for itself
ANALYSIS = frozenset({"against", "resamples", "published"})  # may be changed when the runs are there


class ExperimentBudget(Section):
    """The limit on each problem of each cell, in exactly one currency. Wall time is none: arms share the machine."""

    samples: Positive | None = None
    tokens: Positive | None = None
    judged: Positive | None = None
    gpu_seconds: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        if sum(value is not None for value in self.model_dump().values()) != 1:
            known = ", ".join(type(self).model_fields)
            raise PydanticCustomError("unbounded", "needs exactly one currency of {known}", {"known": known})
        return self

    @property
    def currency(self) -> str:
        return next(name for name, value in self.model_dump().items() if value is not None)

    @property
    def limit(self) -> float:
        return next(float(value) for value in self.model_dump().values() if value is not None)


class ExperimentConfig(Section):
    """What stands in the file. `base` is a run configuration or the path of one; each arm says what it changes in it,
    under `strategy` and `sampler`, by nested or dotted keys. `against` names the arm that the others are compared with;
    null is the first. `published` shows the figures of a model card beside. `run_dir` null is a dated folder.
    """

    base: str | dict[str, Any]
    arms: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    seeds: Annotated[list[Count], Field(min_length=1)]
    budget: ExperimentBudget
    against: str | None = None
    resamples: Positive = 2000
    published: bool = False
    run_dir: str | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for arm in self.arms:
            if not ARM_NAME.fullmatch(arm):
                told = "arm {arm} cannot be a folder's name: letters, digits, '.', '_' and '-'"
                raise PydanticCustomError("unbounded", told, {"arm": repr(arm)})
        if self.against is not None and self.against not in self.arms:
            context = {"against": self.against, "arms": ", ".join(self.arms)}
            raise PydanticCustomError("unbounded", "against is {against}, which is none of the arms {arms}", context)
        if len(set(self.seeds)) != len(self.seeds):
            raise PydanticCustomError("unbounded", "seeds must differ from each other")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment whose every configuration is valid. `base` says how all are judged, with its seed for the judge;
    `arms` are whole run configurations that differ from it in `ARM_KEYS` alone."""

    path: Path
    overrides: tuple[str, ...]
    base: RunConfig
    arms: Mapping[str, RunConfig]
    seeds: tuple[int, ...]
    currency: str
    limit: float
    against: str
    resamples: int
    published: bool
    run_dir: str | None

    @property
    def command(self) -> str:
        """What carries it out again; where its folder lies makes no difference."""
        kept = (shlex.quote(text) for text in self.overrides if not text.startswith("run_dir="))
        return " ".join(("kernelloop compare", str(self.path), *kept))

    @property
    def resuming(self) -> str:
        """The command that goes on with it."""
        told = [shlex.quote(text) for text in self.overrides] + ["--resume"] * (self.run_dir is None)
        return " ".join(("kernelloop compare", str(self.path), *told))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order in which they are begun: seed by seed, all arms of a seed side by side."""
        return tuple(Cell(arm=arm, seed=seed) for seed in self.seeds for arm in self.arms)

    def config_of(self, cell: Cell) -> RunConfig:
        """An ordinary run's."""
        return self.arms[cell.arm].model_copy(update={"seed": cell.seed})

    def definition(self) -> dict[str, Any]:
        """Plain data that says all of it, defaults included."""
        common = self.base.model_dump(mode="json", exclude={*ARM_KEYS, "budget", "run_budget", "run_dir"})
        arms = {
            arm: {key: config.model_dump(mode="json")[key] for key in ARM_KEYS} for arm, config in self.arms.items()
        }
        return {
            "arms": arms,
            "seeds": list(self.seeds),
            "budget": {self.currency: self.limit},
            "against": self.against,
            "resamples": self.resamples,
            "published": self.published,
            "base": common,
        }


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One run of an experiment."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}/seed-{self.seed}"


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in the YAML file at `path`, with `key=value` overrides. Raises ConfigError."""
    raw = read_mapping(path, known=ExperimentConfig)
    for override in overrides:
        apply_override(raw, override)
    try:
        config = ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error, section=ExperimentConfig)}") from error
    base_path, base_raw = _base(config.base, path=path)
    limits = dict.fromkeys(BudgetConfig.model_fields) | config.budget.model_dump()
    # Racing ends a timing against the best kernel that the judge has seen, which here is any arm's.
    common: dict[str, Any] = {"budget": limits, "run_budget": {}, "run_dir": None}
    base = _without_racing(_read(base_raw | common, path=base_path, told=str(base_path)))
    arms = {
        arm: _without_racing(
            _read(
                _arm_raw(base_raw, changes=_changes(changes, path=path, arm=arm)) | common,
                path=base_path,
                told=f"{path}: arms.{arm}",
            )
        )
        for arm, changes in config.arms.items()
    }
    return Experiment(
        path=path, overrides=tuple(overrides), base=base, arms=arms, seeds=tuple(config.seeds),
        currency=config.budget.currency, limit=config.budget.limit,
        against=config.against or next(iter(arms)), resamples=config.resamples,
        published=config.published, run_dir=config.run_dir,
    )  # fmt: skip


def _arm_raw(base: Mapping[str, Any], *, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`engine` is for the arms that have engines."""
    found = merged(base, changes=changes)
    sampler = found.get("sampler")
    if isinstance(sampler, Mapping) and sampler.get("kind") != "vllm":
        found.pop("engine", None)
    return found


def merged(base: Mapping[str, Any], *, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section; one that names its kind takes the place of the other."""
    found = dict(base)
    for key, value in changes.items():
        inner = found.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping) and not KINDS & value.keys():
            value = merged(inner, changes=value)
        found[key] = value
    return found


def first_difference(one: object, other: object, *, key: str = "") -> str | None:
    """The first dotted key at which two definitions differ; None where they are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            inner = f"{key}.{name}" if key else str(name)
            if name not in one or name not in other:
                return inner
            if (found := first_difference(one[name], other[name], key=inner)) is not None:
                return found
        return None
    return None if one == other else key


def _base(base: str | dict[str, Any], *, path: Path) -> tuple[Path, dict[str, Any]]:
    """The file whose folder paths are looked up from, and what it holds."""
    if isinstance(base, dict):
        return path, base
    for found in (Path(base), path.resolve().parent / base):
        if found.is_file():
            return found, read_mapping(found, known=RunConfig)
    raise ConfigError(f"{path}: base: no file {base!r}, looked from {Path.cwd()} or {path.resolve().parent}")


def _read(raw: Mapping[str, Any], *, path: Path, told: str) -> RunConfig:
    """`told` is what errors begin with. Raises ConfigError."""
    try:
        return config_of(raw, path=path)
    except ConfigError as error:
        raise ConfigError(f"{told}: {str(error).removeprefix(f'{path}: ')}") from error


def _without_racing(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"judge": config.judge.model_copy(update={"racing": False})})


def _changes(changes: Mapping[str, Any], *, path: Path, arm: str) -> dict[str, Any]:
    """With dotted keys made nested. Raises ConfigError on what is the same for all arms."""
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        first, *rest = str(key).split(".")
        if first not in ARM_KEYS:
            raise ConfigError(
                f"{path}: arms.{arm}.{key}: an arm may not change it, all arms have it in common; allowed: "
                f"{', '.join(ARM_KEYS)}"
            )
        for part in reversed(rest):
            value = {part: value}
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: arms.{arm}.{key}: holds keys and values, not {value!r}")
        nested = merged(nested, changes={first: value})
    return nested
