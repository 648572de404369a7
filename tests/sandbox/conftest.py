"""Shared warm parts: starting a sandbox takes seconds, so tests of one run use the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox.judge import InterpretJudge
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem, Verdict
from tests.judge_settings import SECRET, judge_settings

RELU = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.rand(64, 100)]
def get_init_inputs():
    return []
"""

LINEAR = """
import torch
class Model(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = torch.nn.Linear(n_in, n_out)
    def forward(self, x):
        return torch.relu(self.linear(x))
def get_inputs():
    return [torch.randn(32, 48)]
def get_init_inputs():
    return [48, 16]
"""

HEAD = "import torch\nimport triton\nimport triton.language as tl\n\n"

RELU_ANSWER = (
    HEAD
    + """
@triton.jit
def relu_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(y_ptr + offsets, tl.maximum(x, 0.0), mask=mask)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        assert x.is_cuda
        y = torch.empty_like(x)
        n = x.numel()
        relu_kernel[(triton.cdiv(n, 1024),)](x, y, n, BLOCK=1024)
        return y
"""
)


@pytest.fixture(scope="session")
def settings() -> JudgeSettings:
    return judge_settings()


@pytest.fixture(scope="session")
def tracer(settings: JudgeSettings) -> Iterator[Tracer]:
    with Tracer(settings) as tracer:
        yield tracer


@pytest.fixture(scope="session")
def interpret_judge(settings: JudgeSettings) -> Iterator[InterpretJudge]:
    judge = InterpretJudge(settings, secret=SECRET)
    yield judge
    judge.close()


def make_problem(source: str, name: str = "problem") -> Problem:
    return Problem(id=name, source=source, origin="test")


def make_candidate(source: str) -> Candidate:
    return Candidate(problem_id="problem", source=source, operator=Operator.DRAFT)


@pytest.fixture(scope="session")
def trace(tracer: Tracer) -> Callable[[str, str], Traced]:
    """Traces a candidate's source for a problem's source."""
    return lambda problem, source: tracer.trace(make_problem(problem), make_candidate(source))


@pytest.fixture(scope="session")
def verdict(tracer: Tracer, interpret_judge: InterpretJudge) -> Callable[[str, str], Verdict]:
    """The verdict on a candidate's source for a problem's source, without a GPU."""

    def judge(problem: str, source: str) -> Verdict:
        candidate = make_candidate(source)
        traced = tracer.trace(make_problem(problem), candidate)
        return interpret_judge.judge(make_problem(problem), candidate, traced)

    return judge


@pytest.fixture(scope="session")
def sources() -> dict[str, str]:
    """The small programs that several tests use."""
    return {"relu": RELU, "linear": LINEAR, "head": HEAD, "relu_answer": RELU_ANSWER}
