"""The run configuration: every key, its default and what it accepts. All defaults of KernelLoop stand here
and in the parts `sampler_config.py`, `strategy_config.py`, `budget_config.py` and `engine_config.py`.

Knows nothing of how the values are used. Types are strict: YAML reads `1e-2` as text, and text is no number.

A relative path to something that is read is looked up from the current directory; if nothing is there, from the folder
of the configuration file. `run_dir`, which is written, is taken from the current directory.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from agent import budget_config
from agent.allocator import Allocator, ExpectedGain, Uniform
from agent.budget_config import BudgetConfig, PricesConfig, RunBudgetConfig
from agent.config_section import ConfigError as ConfigError  # handed on: callers catch what load_config raises
from agent.config_section import Positive, PositiveFloat, Section, one_line
from agent.engine_config import EngineConfig
from agent.sampler_config import LocalModelSection, SamplerConfig
from agent.strategy_config import RepairConfig, StrategyConfig
from sandbox.settings import JudgeSettings, Limits

GIB = 2**30
MIB = 2**20
# Sections and their keys that name a file or folder to be read.
READ_PATHS = (
    ("problems", "path"),
    ("sampler", "path"),
    ("sampler", "template"),
    ("sampler", "operator_templates"),
    ("sampler", "tokenizer"),
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

Share = Annotated[float, Field(ge=0, le=1)]


class ProblemsConfig(Section):
    """`path` is a file, a folder, a glob, or a KernelBench checkout with `levels`. `only` keeps these problem ids."""

    path: str
    levels: list[Positive] | None = None
    only: list[str] | None = None


class LimitsConfig(Section):
    """What one sandboxed child may use. Memory is address space, of which torch maps several GiB unused."""

    wall_seconds: PositiveFloat = 60.0
    cpu_seconds: Positive = 60
    memory_bytes: Positive = 16 * GIB
    output_bytes: Positive = 64 * MIB
    file_bytes: Positive = 256 * MIB
    num_processes: Positive = 64

    def limits(self) -> Limits:
        return Limits(**self.model_dump())


Precision = Literal["ieee", "tf32", "fp16_accumulate"]
Baseline = Literal["eager", "compile", "compile_max_autotune"]


class JudgeConfig(Section):
    """How verdicts are reached. `auto` is replay on a GPU machine and interpret elsewhere; `capability` 90 is sm_90.

    A plan is interpreted up to `interpret_max_bytes` of tensors and `interpret_max_programs` kernel programs.
    """

    mode: Literal["auto", "interpret", "replay"] = "auto"
    capability: Annotated[int, Field(ge=70, le=129)] = 90
    num_seeds: Positive = 3
    policy: Literal["triton", "any"] = "triton"
    precision: Annotated[list[Literal["ieee", "tf32", "fp16_accumulate"]], Field(min_length=1)] = Field(
        default=["ieee"]
    )
    min_kernel_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    isolation: Literal["strict", "best_effort", "off"] = "best_effort"
    trace: LimitsConfig = LimitsConfig()
    interpret: LimitsConfig = LimitsConfig()
    interpret_max_bytes: Positive = 64 * MIB
    interpret_max_programs: Positive = 20_000
    replay_seconds: PositiveFloat = 60.0
    max_slowdown: PositiveFloat = 1000.0
    baselines: Annotated[list[Baseline], Field(min_length=1)] = Field(
        default=["eager", "compile", "compile_max_autotune"]
    )
    timing_rounds: Positive = 60
    timing_seconds: PositiveFloat = 2.0
    timing_interval: PositiveFloat = 0.02
    racing: bool = True
    cache_dir: str | None = "~/.cache/kernelloop"

    def settings(self, seed: int, gpu_available: bool) -> JudgeSettings:
        """Raises ConfigError if replay is demanded where there is no GPU."""
        if self.mode == "replay" and not gpu_available:
            raise ConfigError("judge.mode: replay needs a GPU and none is available; allowed here: auto, interpret")
        mode = ("replay" if gpu_available else "interpret") if self.mode == "auto" else self.mode
        shared = self.model_dump(exclude={"mode", "trace", "interpret", "precision", "baselines", "cache_dir"})
        return JudgeSettings(
            mode=mode, seed=seed, trace_limits=self.trace.limits(), interpret_limits=self.interpret.limits(),
            precision=tuple(self.precision), baselines=tuple(self.baselines),
            cache_dir=None if self.cache_dir is None else str(Path(self.cache_dir).expanduser()), **shared,
        )  # fmt: skip


class ConfirmConfig(Section):
    """Whether the best of each problem is judged once more at its search's end, and how many candidates at most."""

    enabled: bool = True
    candidates: Positive = 3

    @property
    def most(self) -> int:
        return self.candidates if self.enabled else 0


class AllocatorConfig(Section):
    """Which problem has the next turn: each in order, or by expected gain, where `weights` are by problem id, 1 for
    those left out."""

    name: Literal["uniform", "expected_gain"] = "uniform"
    weights: dict[str, PositiveFloat] = Field(default={})

    @model_validator(mode="after")
    def _weights_used(self) -> Self:
        if self.weights and self.name == "uniform":
            raise PydanticCustomError("unbounded", "weights need name: expected_gain; uniform has none")
        return self

    def allocator(self) -> Allocator:
        return ExpectedGain(self.weights) if self.name == "expected_gain" else Uniform()


class RayConfig(Section):
    """`address` null starts a local Ray; null counts are taken from the cluster's cores and GPUs."""

    pool: Literal["ray", "serial"] = "ray"
    address: str | None = None
    trace_workers: Positive | None = None
    judges: Positive | None = None


class RunConfig(Section):
    """One run. `run_dir` null is a dated folder under `runs/`."""

    problems: ProblemsConfig
    sampler: SamplerConfig
    strategy: StrategyConfig = RepairConfig(name="repair")
    budget: BudgetConfig = BudgetConfig()
    run_budget: RunBudgetConfig = RunBudgetConfig()
    prices: PricesConfig = PricesConfig()
    judge: JudgeConfig = JudgeConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    ray: RayConfig = RayConfig()
    engine: EngineConfig = EngineConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    run_dir: str | None = None
    allocator: AllocatorConfig = AllocatorConfig()

    @field_validator("problems", mode="before")
    @classmethod
    def _path_alone(cls, raw: object) -> object:
        return {"path": raw} if isinstance(raw, str) else raw

    @field_validator("strategy", mode="before")
    @classmethod
    def _default_name(cls, raw: object) -> object:
        return {"name": "repair", **raw} if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _engines_are_vllms(self) -> Self:
        if self.engine != EngineConfig() and self.sampler.kind != "vllm":
            told = "engine is for sampler.kind: vllm, and sampler.kind is {kind}: leave engine out, or empty"
            raise PydanticCustomError("unfit", told, {"kind": self.sampler.kind})
        return self

    @model_validator(mode="after")
    def _bounded_in_what_has_a_price(self) -> Self:
        told = budget_config.mistake(self.budget, run_budget=self.run_budget, prices=self.prices)
        if told is not None:
            raise PydanticCustomError("unfit", "{told}", {"told": told})
        return self

    def strategy_options(self) -> dict[str, Any]:
        """What the strategy's constructor takes besides the seed."""
        return self.strategy.model_dump(exclude={"name"})

    def to_yaml(self) -> str:
        """Every key, defaults included; `load_config` reads it back to an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in the YAML file at `path`, with `key=value` overrides (dotted keys, values read as YAML).

    Raises ConfigError.
    """
    path = Path(path)
    return config_of(read_mapping(path, known=RunConfig), path=path, overrides=overrides)


def config_of(raw: Mapping[str, Any], *, path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The same from what such a file holds; `path` is what errors name, and where relative paths are looked up too."""
    changed = dict(raw)
    for override in overrides:
        apply_override(changed, override)
    try:
        config = RunConfig.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error, section=RunConfig)}") from error
    return _with_paths_found(config, path=path)


def read_mapping(path: Path, *, known: type[Section]) -> dict[str, Any]:
    """The keys and values in the YAML file at `path`. Raises ConfigError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold keys and values; known keys: {', '.join(known.model_fields)}")
    return raw


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Sets one dotted key in place. Raises ConfigError."""
    key, equals, text = override.partition("=")
    *parents, last = key.split(".")
    if not equals or not all((*parents, last)):
        raise ConfigError(f"{override!r}: an override is written key=value, as in budget.samples=8")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not YAML: {' '.join(str(error).split())}") from error
    section = raw
    for parent in parents:
        inner = section.get(parent)
        if parent == "problems" and isinstance(inner, str):
            inner = {"path": inner}
        if not isinstance(inner, dict | None):
            raise ConfigError(f"{override!r}: {parent} holds {inner!r}, which has no keys")
        inner = dict(inner or {})
        section[parent] = inner
        section = inner
    section[last] = value


def _with_paths_found(config: RunConfig, *, path: Path) -> RunConfig:
    """`config` with every path that is read made absolute."""
    found: dict[str, Section] = {}
    for name, key in READ_PATHS:
        section = found.get(name, getattr(config, name))
        if (text := getattr(section, key, None)) is not None:
            found[name] = section.model_copy(update={key: _found(text, key=f"{name}.{key}", config_path=path)})
    sampler = found.get("sampler", config.sampler)
    if isinstance(sampler, LocalModelSection):
        found["sampler"] = sampler.model_copy(update={"model": _checkpoint(sampler.model, config_path=path)})
    return config.model_copy(update=found)


def _checkpoint(model: str, *, config_path: Path) -> str:
    """The folder made absolute. What is no folder, and looks like a hub's `owner/name`, is left as it is."""
    try:
        return _found(model, key="sampler.model", config_path=config_path)
    except ConfigError:
        if HUB_ID.fullmatch(model):
            return model
        raise


def _found(text: str, *, key: str, config_path: Path) -> str:
    """Raises ConfigError if neither the current directory nor the configuration's folder has it."""
    folders = (Path.cwd(), config_path.resolve().parent)
    for folder in folders:
        found = folder / Path(text).expanduser()
        if found.exists() or glob.glob(str(found), recursive=True):
            return str(found)
    looked = " or ".join(dict.fromkeys(str(folder) for folder in folders))
    raise ConfigError(f"{config_path}: {key}: nothing at {text!r}, looked from {looked}")
