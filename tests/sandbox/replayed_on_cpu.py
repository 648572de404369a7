"""Replays programs of the corpora without a GPU: buffers on the CPU, Triton's interpreter in the driver's place.

`TRITON_INTERPRET=1 python -m tests.sandbox.replayed_on_cpu NAME ...` prints a JSON object: each program's status, null
where every case is right. Triton reads the variable when it is imported, so this has a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import torch

from sandbox.calibrate import MAX_ADDED, admit, calibrate
from sandbox.cuda_driver import CudaDriver
from sandbox.execute import Arena
from sandbox.interpret import warm
from sandbox.interpreter import interpreted, launch
from sandbox.next_call import NextCall
from sandbox.plan import LaunchStep, Plan, decode, num_alternatives
from sandbox.plan_check import step_refs
from sandbox.reference import Case, Reference
from sandbox.replay import Check, verify
from sandbox.runner import Runner
from sandbox.seeds import called_again, case_seeds
from sandbox.tracer import Tracer
from sandbox.watchdog import Watchdog
from tests.adversarial.layers import CHEATS, HONEST, Program, read_cheat, read_honest
from tests.judge_settings import SECRET, judge_settings

SETTINGS = judge_settings()
CPU = torch.device("cpu")
BY_NAME = {path.stem: path for path in (*HONEST, *CHEATS)}


class _NoDriver:
    """There is nothing to wait for on the CPU."""

    def synchronise(self) -> None: ...


class _OnCpu(Runner):
    """The runner with kernels interpreted from their text."""

    def __init__(self, plan: Plan) -> None:
        watchdog = Watchdog(lambda: None)  # nothing is limited
        super().__init__(plan, driver=cast(CudaDriver, _NoDriver()), device=CPU, watchdog=watchdog)
        self.resolve((0,) * len(num_alternatives(plan)))

    def guard_bytes(self) -> int:
        return 512

    def launcher(self, arena: Arena) -> Callable[[LaunchStep], None]:
        functions: dict[int, Any] = {}

        def run(step: LaunchStep) -> None:
            kernel = self.plan.kernels[step.kernel]
            functions[step.kernel] = functions.get(step.kernel) or interpreted(kernel)
            for index in step_refs(self.plan, step):
                arena.tensor(index)
            launch(step, arena, kernel, functions[step.kernel])

        return run


def cases_of(tracer: Tracer, program: Program, *, vary: frozenset[str]) -> tuple[Reference, list[Case]]:
    reference = Reference(program.problem, spec=tracer.spec(program.problem), device=CPU)
    seeds = case_seeds(program.problem, secret=SECRET, count=SETTINGS.num_seeds + MAX_ADDED)
    known, made = calibrate(reference, seeds=seeds, num_cases=SETTINGS.num_seeds, precision="ieee")
    return reference, list(admit(reference, known, made=made, seeds=seeds, vary=vary, precision="ieee"))


def verified(tracer: Tracer, name: str) -> Check:
    path = BY_NAME[name]
    program = read_honest(path) if path in HONEST else read_cheat(path)
    traced = tracer.trace(program.problem, program.candidate)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    names = frozenset(name for name, _ in plan.weights)
    reference, cases = cases_of(tracer, program, vary=names)
    next_call = NextCall(reference, cases[called_again(len(cases))])
    return verify(_OnCpu(plan), cases, next_call=next_call)


def main() -> None:
    warm()
    with contextlib.closing(Tracer(SETTINGS)) as tracer:
        print(json.dumps({name: verified(tracer, name).status for name in sys.argv[1:]}))


if __name__ == "__main__":
    main()
