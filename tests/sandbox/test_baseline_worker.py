"""PyTorch as a baseline: compiled answers are checked; on a GPU, real compilers, precision and a candidate against
itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sandbox.baseline_worker import OpenProblem, WrongAnswer, _check_compiled, allow
from sandbox.baselines import BASELINE_COMMAND, Baselines, TimingTask
from sandbox.gpu_judge import GpuJudge
from sandbox.settings import JudgeSettings
from sandbox.tracer import Tracer
from sandbox.types import BASELINES, Candidate, Operator, Problem


class Doubles(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * x


def test_a_compiled_module_must_give_eagers_answer_on_every_input_set() -> None:
    opened = OpenProblem(model=Doubles(), arguments=[[torch.ones(8)], [torch.full((8,), 3.0)]], bound=None)
    _check_compiled(opened, lambda x: x + x)
    with pytest.raises(WrongAnswer, match="differs"):
        _check_compiled(opened, lambda x: x + 1.0)  # right on the first set
    with pytest.raises(WrongAnswer, match="float64"):
        _check_compiled(opened, lambda x: 2.0 * x.double())


class Adds(torch.nn.Module):
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total + x
        return self.total


def test_a_compiled_module_that_keeps_something_is_compared_call_by_call() -> None:
    opened = OpenProblem(model=Adds(), arguments=[[torch.ones(8)], [torch.full((8,), 3.0)]], bound=None)
    _check_compiled(opened, Adds())
    with pytest.raises(WrongAnswer, match="differs"):
        _check_compiled(opened, lambda x: x + 0.0)  # right in the first call


def test_a_baseline_may_compute_in_what_the_policy_allows_and_in_nothing_else() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def flags() -> tuple[bool, ...]:
        return (
            matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_fp16_reduced_precision_reduction,
            matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_accumulation,
        )  # fmt: skip

    before = flags()
    try:
        for precision, expected in (
            (("ieee", "tf32"), (True, True, False, False, False)),
            (("ieee", "fp16_accumulate"), (False, False, True, True, True)),
            (("ieee",), (False,) * 5),
        ):
            allow(precision)
            assert flags() == expected
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction = before[2:4]
        matmul.allow_fp16_accumulation = before[4]


# --- on a GPU -----------------------------------------------------------------------------------------------------

FORM = """
import torch
class Model(torch.nn.Module):
    def forward(self, {names}):
        return {body}
def get_inputs():
    return [{inputs}]
def get_init_inputs():
    return []
"""
CHAIN = FORM.format(
    names="x", body="torch.sigmoid(torch.relu(x * 2.0 + 1.0) - 0.5).clamp(0.1, 0.9)", inputs="torch.randn(4096, 4096)"
)
MATMUL = FORM.format(names="a, b", body="a @ b", inputs="torch.randn(2048, 2048), torch.randn(2048, 2048)")
NORM = FORM.format(
    names="x", body="torch.nn.functional.layer_norm(x, (4096,))", inputs="torch.randn(4096, 4096)"
)  # fmt: skip
STATEFUL = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.full((1024, 1024), 0.5)
    def forward(self, x):
        self.hidden = torch.tanh(x + 0.5 * self.hidden)
        return self.hidden * 2
def get_inputs():
    return [torch.randn(1024, 1024)]
def get_init_inputs():
    return []
"""
SMALL = FORM.format(names="x", body="torch.relu(x)", inputs="torch.randn(64, 1024)")


def problem_of(source: str) -> Problem:
    return Problem(id="problem", source=source, origin="test")


@pytest.fixture
def baselines(settings: JudgeSettings) -> Iterator[Callable[..., Baselines]]:
    made: list[Baselines] = []

    def make(**changes: Any) -> Baselines:
        changed = replace(settings, **{"baselines": BASELINES, **changes})
        made.append(Baselines(changed, device=0, compile_seconds=300.0, command=BASELINE_COMMAND))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def task(tracer: Tracer) -> Callable[[str], TimingTask]:
    def make(source: str) -> TimingTask:
        problem = problem_of(source)
        return TimingTask(problem=problem, spec=tracer.spec(problem), seed=1, timing_seeds=(2, 3))

    return make


@pytest.mark.gpu
def test_compiled_baselines_are_built_and_kept(
    baselines: Callable[..., Baselines], task: Callable[[str], TimingTask], tmp_path: Path
) -> None:
    ours = baselines(cache_dir=str(tmp_path / "cache"))
    chain, matmul = task(CHAIN), task(MATMUL)
    fused = ours.table(chain, kind="graph")
    assert fused.left_out == {} and set(fused.times) == set(BASELINES)
    assert fused.best != "eager" and fused.times["eager"].time_us > 2 * fused.times[fused.best].time_us
    product = ours.table(matmul, kind="graph")
    assert product.left_out == {} and {time.kind for time in product.times.values()} == {"graph"}
    for known in (chain, matmul):  # both still open, though Dynamo was reset in between
        table = ours.table(known, kind="graph")
        live = ours.measure(known, table.best, kind="graph", replays=9)
        assert sorted(live)[4] == pytest.approx(table.times[table.best].time_us, rel=0.1)
    ours.close()
    again = baselines(cache_dir=str(tmp_path / "cache")).table(chain, kind="graph")
    assert again.kept and again.times == fused.times


@pytest.mark.gpu
def test_a_graph_goes_on_reading_what_its_module_has_put_aside(
    baselines: Callable[..., Baselines], task: Callable[[str], TimingTask]
) -> None:
    """The hidden state that a capture read is dropped for a new one, and the next baseline has unused memory freed."""
    stateful = task(STATEFUL)
    ours = baselines()
    table = ours.table(stateful, kind="graph")
    assert table.left_out == {} and set(table.times) == set(BASELINES)
    assert len(ours.measure(stateful, table.best, kind="graph", replays=4)) == 4


@pytest.mark.gpu
def test_baselines_use_tf32_where_and_only_where_the_policy_allows_it(
    baselines: Callable[..., Baselines], task: Callable[[str], TimingTask]
) -> None:
    source = MATMUL.replace("2048, 2048", "4096, 4096")
    exact = baselines(baselines=("eager",)).table(task(source), kind="graph").times["eager"].time_us
    lowered = baselines(baselines=("eager",), precision=("ieee", "tf32")).table(task(source), kind="graph")
    assert lowered.times["eager"].time_us < 0.6 * exact


@pytest.mark.gpu
@pytest.mark.parametrize("source", [CHAIN, MATMUL, NORM, SMALL], ids=["chain", "matmul", "norm", "small"])
def test_eager_against_itself_is_neither_faster_nor_slower(
    tracer: Tracer, settings: JudgeSettings, source: str
) -> None:
    changed = replace(settings, mode="replay", policy="any", min_kernel_share=0.0)
    judge = GpuJudge(changed, device=0)
    candidate = Candidate(problem_id="problem", source=source + "\nModelNew = Model\n", operator=Operator.DRAFT)
    try:
        problem = problem_of(source)
        found = judge.judge(problem, candidate, tracer.trace(problem, candidate))
    finally:
        judge.close()
    assert found.passed, found.feedback
    assert found.performance is not None
    # A run of some microseconds shows where its process happened to put the tensors.
    apart_us = abs(found.performance.baseline_us["eager"] - found.performance.runtime_us)
    assert found.speedup == pytest.approx(1.0, abs=0.02) or apart_us <= 0.2, found.performance
    assert found.performance.conditions["ended"] == "interval"
