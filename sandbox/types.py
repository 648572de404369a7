"""The shared words: problems, candidates, verdicts and what they cost.

Knows nothing of torch, triton, Ray or any model; every layer may import it. Records refuse impossible states when
built.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from sandbox.spend import MAX_UNSPENT as MAX_UNSPENT
from sandbox.spend import Budget as Budget  # handed on: they are words that every layer shares
from sandbox.spend import Prices as Prices
from sandbox.spend import Spend as Spend
from sandbox.strict_json import number, plain


class Operator(StrEnum):
    """How a candidate comes to be."""

    DRAFT = "draft"  # from the problem alone
    REPAIR = "repair"  # from a failed candidate and its feedback
    IMPROVE = "improve"  # from a passing candidate
    TUNE = "tune"  # launch parameters only, no model
    FIX = "fix"  # from a failed candidate by rules, no model
    MERGE = "merge"  # from two passing candidates


class Status(StrEnum):
    """How judging a candidate ended. Every status but `passed` and `unverified` blames the candidate."""

    NO_KERNEL = "no_kernel"
    REJECTED = "rejected"
    TRACE_ERROR = "trace_error"
    UNTRACEABLE = "untraceable"
    COMPILE_ERROR = "compile_error"
    LAUNCH_ERROR = "launch_error"
    ILLEGAL_ACCESS = "illegal_access"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_VALUES = "wrong_values"
    UNVERIFIED = "unverified"
    PASSED = "passed"


class Pattern(StrEnum):
    """What wrong values look like as a whole."""

    ZEROS = "zeros"
    NAN = "nan"
    TAIL_ONLY = "tail_only"
    CONSTANT_RATIO = "constant_ratio"
    TRANSPOSED = "transposed"
    RUN_TO_RUN = "run_to_run"
    UNWRITTEN = "unwritten"


def content_hash(*parts: str | bytes) -> str:
    """SHA-256 over length-prefixed parts, so that no two lists of parts share a hash by concatenation. 32 hex
    digits."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:32]


# What a candidate can be timed against: PyTorch as it is, and two ways to compile it.
BASELINES = ("eager", "compile", "compile_max_autotune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a candidate may be from the float64 answer, in multiples of PyTorch's own error in the declared dtype.

    `elementwise` bounds the largest element error, `rms` the root mean square error. `floor_eps` is the least bound, in
    units of the dtype's machine epsilon, for operations on which PyTorch happens to be exact.
    """

    elementwise: float = 16.0
    rms: float = 8.0
    floor_eps: float = 32.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"tolerance.{item.name} must be a positive finite number, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A PyTorch module in KernelBench form: `Model`, `get_inputs()`, `get_init_inputs()`.

    `id` is a readable name, unique within a run and safe as a file name. `origin` says where the source came from.
    """

    id: str
    source: str
    origin: str
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        if not self.id or not all(c.isalnum() or c in "._-" for c in self.id) or self.id.startswith("."):
            raise ValueError(
                f"problem id {self.id!r} must be letters, digits, '.', '_' and '-', and not start with '.'"
            )

    @property
    def key(self) -> str:
        """Identifies the work: the same source under the same tolerance has the same key."""
        return content_hash(self.source, repr(self.tolerance))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a strategy asks for. `id` is unique within one search; `parents` are candidate ids, nearest first."""

    id: str
    operator: Operator
    parents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needed = {Operator.DRAFT: 0, Operator.MERGE: 2}.get(self.operator, 1)
        if len(self.parents) < needed or (needed == 0 and self.parents):
            raise ValueError(f"{self.operator} takes {needed} parent(s), not {len(self.parents)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One program that claims to solve a problem. `truncated` says that the model's answer was cut off."""

    problem_id: str
    source: str
    operator: Operator
    parent_ids: tuple[str, ...] = ()
    truncated: bool = False

    @property
    def id(self) -> str:
        """A hash of problem and source: the same program proposed twice is one candidate."""
        return content_hash(self.problem_id, self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """How an output differs from the expected one. `output` names it ("output", "output[1]", "output['loss']")."""

    output: str
    share_wrong: float
    first_bad_index: tuple[int, ...]
    expected: float
    got: float
    pattern: Pattern | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.share_wrong <= 1.0:
            raise ValueError(f"share_wrong must be in (0, 1], not {self.share_wrong}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in the candidate's own terms. `message` is the last line of the error."""

    error_class: str
    message: str
    line_number: int | None = None
    source_line: str | None = None
    mismatch: Mismatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in a candidate's text that is wrong, seen without running it on anything.

    `rule` names who saw it. `start` and `end` bound `found` in the source, in characters. `instead` is what belongs
    there, None where nobody can be sure. `message` is one line for the model.
    """

    rule: str
    start: int
    end: int
    found: str
    instead: str | None
    message: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end or len(self.found) != self.end - self.start:
            raise ValueError(f"a finding at {self.start} to {self.end} cannot hold {self.found!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correctness:
    """What was checked and how closely it agreed.

    `checked_by` is "interpret" or "replay". `weights` is "by_name", "by_seed" or "none": how the candidate's
    parameters were given their values. `max_error_ratio` and `rms_error_ratio` are the largest error over its bound:
    passing is <= 1.
    `conditions` holds device, versions and reference dtype as they were.
    """

    checked_by: str
    seeds: tuple[int, ...]
    weights: str
    max_error_ratio: float | None
    rms_error_ratio: float | None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Device times of candidate and baselines, measured interleaved on one GPU.

    `baseline_us` has every baseline by name, `against` names the fastest of them. `speedup` is the median over rounds
    of that one's time / the candidate's; `speedup_low` and `speedup_high` bound its 95 % interval. `floor_us` is the
    roofline's: moving the bytes once. `samples_us` has a time a round, the interquartile mean of its replays, of
    "candidate" and of `against`. `python_call_us` is the wall time of one call of the module from Python, as its own
    process tells it; None where that was not measured. `conditions` holds GPU, versions, clocks, precision policy and
    how the time was taken.
    """

    runtime_us: float
    baseline_us: Mapping[str, float]
    against: str
    speedup: float
    speedup_low: float
    speedup_high: float
    repetitions: int
    floor_us: float | None = None
    python_call_us: float | None = None
    samples_us: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.runtime_us) and self.runtime_us > 0 and self.baseline_us):
            raise ValueError("a performance figure needs a positive candidate time and at least one baseline")
        if not 0 < self.speedup_low <= self.speedup <= self.speedup_high:
            raise ValueError("speedup must lie within its interval")
        if self.against not in self.baseline_us:
            raise ValueError(f"against {self.against!r} is none of the baselines {sorted(self.baseline_us)}")


# A verdict tells the figures of this many kernels at most, the first launched first.
MAX_KERNEL_FIGURES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFigures:
    """One compiled kernel of a plan: registers and local memory (spills) of a thread, shared memory of a program, both
    as the compiler tells them; how many warps run a program, the grid of its first launch, and how many launches."""

    name: str
    registers: int
    local_bytes: int
    shared_bytes: int
    num_warps: int
    grid: tuple[int, int, int]
    launches: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        x, y, z = raw["grid"]
        return cls(**{**raw, "grid": (x, y, z)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the trusted side says of a candidate. Refuses impossible states.

    `labels` says what else is true of the candidate (`triton`, `mixed`, `torch`, `names_restored`, ...), `kernels` what
    its launched kernels take of the GPU, `findings` what its text shows to be wrong. `stage_seconds` is where the wall
    time went; `spend` what it is charged for. `gpu` is the UUID of the GPU that it was reached on, None where none
    was asked.
    """

    candidate_id: str
    status: Status
    feedback: str = ""
    failure: Failure | None = None
    correctness: Correctness | None = None
    performance: Performance | None = None
    plan_hash: str | None = None
    labels: tuple[str, ...] = ()
    kernels: tuple[KernelFigures, ...] = ()
    findings: tuple[Finding, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    spend: Spend = field(default_factory=Spend)
    gpu: str | None = None

    def __post_init__(self) -> None:
        passed = self.status is Status.PASSED
        if passed and (self.correctness is None or self.plan_hash is None):
            raise ValueError("a passed verdict needs correctness figures and a plan")
        if passed == (self.failure is not None):
            raise ValueError(f"a verdict of {self.status} must {'not ' if passed else ''}carry a failure")
        if self.performance is not None and not passed:
            raise ValueError(f"a verdict of {self.status} cannot carry performance")
        if len(self.kernels) > MAX_KERNEL_FIGURES:
            raise ValueError(f"a verdict tells at most {MAX_KERNEL_FIGURES} kernels, not {len(self.kernels)}")

    @property
    def is_short_of_memory(self) -> bool:
        """Whether more memory might make another verdict of it."""
        return self.status is Status.OUT_OF_MEMORY or "short_of_memory" in self.labels

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED

    @property
    def fixable(self) -> bool:
        """Whether rules can make another candidate of this one: it failed, and a finding has its replacement."""
        return not self.passed and any(finding.instead is not None for finding in self.findings)

    @property
    def timed(self) -> bool:
        return self.performance is not None

    @property
    def speedup(self) -> float:
        """0 unless passed and timed."""
        return self.performance.speedup if self.performance is not None else 0.0

    @property
    def rank(self) -> tuple[bool, float]:
        """Orders verdicts: passed before failed, then by speedup."""
        return (self.passed, self.speedup)

    def to_json(self) -> dict[str, Any]:
        """Plain data for files and wires, fit for strict JSON; `from_json` reads it back."""
        return plain(asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        known = {f.name for f in fields(cls)}
        if unknown := set(raw) - known:
            raise ValueError(f"unknown verdict keys {sorted(unknown)}; known: {sorted(known)}")
        values = dict(raw)
        values["status"] = Status(values["status"])
        values["failure"] = failure_from_json(values.get("failure"))
        if (correctness := values.get("correctness")) is not None:
            ratios = {name: number(correctness[name]) for name in ("max_error_ratio", "rms_error_ratio")}
            values["correctness"] = Correctness(**{**correctness, **ratios, "seeds": tuple(correctness["seeds"])})
        if (performance := values.get("performance")) is not None:
            samples = {name: tuple(times) for name, times in performance.get("samples_us", {}).items()}
            values["performance"] = Performance(**{**performance, "samples_us": samples})
        values["labels"] = tuple(values.get("labels", ()))
        values["kernels"] = tuple(KernelFigures.from_json(kernel) for kernel in values.get("kernels", ()))
        values["findings"] = tuple(Finding(**finding) for finding in values.get("findings", ()))
        values["spend"] = Spend(**values.get("spend", {}))
        return cls(**values)


def failure_from_json(raw: Mapping[str, Any] | None) -> Failure | None:
    """A Failure from plain data, or None from None."""
    if raw is None:
        return None
    values = dict(raw)
    if (mismatch := values.get("mismatch")) is not None:
        pattern = mismatch.get("pattern")
        shown = {name: number(mismatch[name]) for name in ("expected", "got")}
        values["mismatch"] = Mismatch(
            **{
                **mismatch,
                **shown,
                "first_bad_index": tuple(mismatch["first_bad_index"]),
                "pattern": None if pattern is None else Pattern(pattern),
            }
        )
    return Failure(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A candidate and what was said of it. `num_tokens` is what asking for it took, prompt and answer; None where that
    is not told."""

    candidate: Candidate
    verdict: Verdict
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.candidate.id != self.verdict.candidate_id:
            raise ValueError("the verdict is about another candidate")
