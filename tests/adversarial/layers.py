"""The corpora as both tests read them, and the layer of the judge that a verdict shows.

Needs no GPU and loads no framework.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from sandbox.problems import load_problems
from sandbox.types import Candidate, Operator, Problem, Status, Verdict

HERE = Path(__file__).parent
FOLDERS = (HERE / "problems", HERE.parent.parent / "configs" / "problems")
CHEATS = sorted((HERE / "programs").glob("*.py"))
HONEST = sorted((HERE / "honest").glob("*.py"))
_CHEAT = re.compile(
    r"# expect: (?P<expect>\S+) problem: (?P<problem>\S+)(?: layer: (?P<layer>\S+))?(?: gpu: (?P<gpu>\S+))?"
    r"(?: limits: wall=(?P<wall>\d+))? why: .+"
)
_HONEST = re.compile(r"# problem: (?P<problem>\S+)\n(?:# precision: (?P<precision>tf32)\n)?")


class Layer(StrEnum):
    """Which part of the judge decides about a candidate."""

    SCREEN = "screen"  # the text is no program
    TRACE = "trace"  # the sandboxed child could not record, or compile, what the program does
    ISOLATION = "isolation"  # the child was refused something, or ended, and left nothing that is used
    DEADLINE = "deadline"  # it took too long
    CHECK = "check"  # the plan or its kernel text is not fit to be run, or its outputs are of another form
    POLICY = "policy"  # the plan's dataflow is not what may win
    COMPARE = "compare"  # the values are wrong
    GUARD = "guard"  # memory outside a kernel's tensors, or an input that changed
    PRECISION = "precision"  # computed in less than the run allows
    LAUNCH = "launch"  # the driver, or CUDA's limits, would not launch it
    UNSEEN = "unseen"  # cannot be told, so not passed
    CONSTRUCTION = "construction"  # the cheat cannot be put into a plan; what is left of it is honest and passes


_BY_CLASS = {
    "Policy": Layer.POLICY, "KernelShare": Layer.POLICY, "PlanError": Layer.CHECK, "ForgedResult": Layer.CHECK,
    "SourceError": Layer.CHECK, "ProcessEnded": Layer.ISOLATION, "Timeout": Layer.DEADLINE, "TooLarge": Layer.DEADLINE,
    "Precision": Layer.PRECISION, "HiddenWeights": Layer.UNSEEN, "Aliasing": Layer.CHECK, "Device": Layer.CHECK,
    "Outputs": Layer.CHECK, "OSError": Layer.ISOLATION, "PermissionError": Layer.ISOLATION,
    "BlockingIOError": Layer.ISOLATION, "InputChanged": Layer.GUARD, "NoModelNew": Layer.SCREEN,
    "NoCode": Layer.SCREEN,
}  # fmt: skip
_BY_STATUS = {
    Status.NO_KERNEL: Layer.SCREEN, Status.REJECTED: Layer.CHECK, Status.TRACE_ERROR: Layer.TRACE,
    Status.UNTRACEABLE: Layer.TRACE, Status.COMPILE_ERROR: Layer.TRACE, Status.LAUNCH_ERROR: Layer.LAUNCH,
    Status.ILLEGAL_ACCESS: Layer.GUARD, Status.TIMEOUT: Layer.DEADLINE, Status.OUT_OF_MEMORY: Layer.ISOLATION,
    Status.WRONG_SHAPE: Layer.COMPARE, Status.WRONG_DTYPE: Layer.COMPARE, Status.WRONG_VALUES: Layer.COMPARE,
    Status.UNVERIFIED: Layer.UNSEEN, Status.PASSED: Layer.CONSTRUCTION,
}  # fmt: skip


def layer_of(verdict: Verdict) -> Layer:
    """The layer that decided, from the verdict's status and its failure's class."""
    known = None if verdict.failure is None else _BY_CLASS.get(verdict.failure.error_class)
    return known or _BY_STATUS[verdict.status]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of either corpus with what its first lines say. `layers` (None: any) and `statuses` are those that it
    may get, `gpu` (None: the same) its statuses where a GPU replays; `wall_seconds` limits its child."""

    path: Path
    problem: Problem
    candidate: Candidate
    statuses: frozenset[Status]
    layers: frozenset[Layer] | None
    gpu: frozenset[Status] | None = None
    precision: tuple[str, ...] = ("ieee",)
    wall_seconds: float | None = None


def chosen(request: pytest.FixtureRequest) -> list[Path]:
    """The programs that this run asks for in the fixture's module, in order."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    return [Path(str(item.callspec.params["path"])) for item in items if hasattr(item, "callspec")]


def _problem(stem: str) -> Problem:
    (problem,) = load_problems(next(path for folder in FOLDERS if (path := folder / f"{stem}.py").exists()))
    return problem


def _statuses(raw: str) -> frozenset[Status]:
    return frozenset(Status(name) for name in raw.split("|"))


def read_cheat(path: Path) -> Program:
    """A program of `programs/`. Raises ValueError unless its first line has the form that README.md gives."""
    source = path.read_text()
    if (header := _CHEAT.match(source)) is None:
        raise ValueError(f"{path.name} has no first line in the form that README.md gives")
    problem = _problem(header["problem"])
    return Program(
        path=path,
        problem=problem,
        candidate=Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT),
        statuses=_statuses(header["expect"]),
        layers=None if header["layer"] is None else frozenset(Layer(name) for name in header["layer"].split("|")),
        gpu=None if header["gpu"] is None else _statuses(header["gpu"]),
        wall_seconds=None if header["wall"] is None else float(header["wall"]),
    )


def read_honest(path: Path) -> Program:
    """A program of `honest/`. Raises ValueError unless it names its problem."""
    source = path.read_text()
    if (header := _HONEST.match(source)) is None:
        raise ValueError(f"{path.name} does not name its problem")
    problem = _problem(header["problem"])
    return Program(
        path=path,
        problem=problem,
        candidate=Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT),
        statuses=frozenset([Status.PASSED]),
        layers=frozenset([Layer.CONSTRUCTION]),
        precision=("ieee",) if header["precision"] is None else ("ieee", header["precision"]),
    )
