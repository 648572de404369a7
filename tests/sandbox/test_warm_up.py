"""What a fresh worker judges first: a sound problem with a right plan, or its failure would tell of a sick GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sandbox import replay_worker, warm_up
from sandbox.compare import compare
from sandbox.describe import run
from sandbox.execute import Arena, bind_inputs, initialise, run_steps
from sandbox.plan import decode, encode
from sandbox.plan_check import tensor_refs
from sandbox.reference import Reference
from sandbox.wire import unpack


def test_its_plan_is_a_right_answer_to_its_problem() -> None:
    reference = Reference(warm_up.PROBLEM, spec=warm_up.REQUEST["spec"], device=torch.device("cpu"))
    case = reference.case("given", seed=3, vary=frozenset(warm_up.WEIGHTS), precision="ieee")
    assert case is not None
    plan = warm_up.plan()
    initial, how = initialise(plan, seed=3, weights=case.weights)
    arena = Arena(plan, device=torch.device("cpu"), poison=0xFF, guard_bytes=512)
    arena.load(initial)
    bind_inputs(plan, arena, case.inputs)
    run_steps(plan.steps, arena, lambda step: None)  # type: ignore[arg-type]
    assert how == "by_name"
    assert compare([arena.tensor(i) for i in tensor_refs(plan.outputs)], case.expected).failure is None
    assert decode(encode(plan)) == replace(plan)


def test_its_description_is_what_describing_it_gives(tmp_path: Path) -> None:
    described, _ = unpack(run({"source": warm_up.PROBLEM.source}, [], tmp_path))
    assert {**described, "outputs": None, "returned": None} == warm_up.REQUEST["spec"]


def test_the_part_before_the_gpu_leaves_nothing_to_import() -> None:
    script = (
        "import sys; from sandbox import warm_up; warm_up.on_cpu(); known = set(sys.modules); warm_up.on_cpu();"
        "print(sorted(set(sys.modules) - known))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_its_request_has_all_that_opening_a_problem_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_worker, "_eager_us", lambda reference, case: 1.0)
    worker = object.__new__(replay_worker.ReplayWorker)  # on the CPU: what is made there needs no CUDA
    worker._device, worker._calibrations = torch.device("cpu"), {}
    monkeypatch.setattr(worker, "_vault", SimpleNamespace(keep=lambda tensor: None), raising=False)
    opened = worker._make(warm_up.PROBLEM, warm_up.REQUEST, vary=frozenset(warm_up.WEIGHTS))
    assert len(opened.cases) >= warm_up.REQUEST["num_seeds"]
