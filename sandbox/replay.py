"""Says whether a plan's answer is right, by running it on a GPU.

The expected answers lie out of the kernels' reach until these have run. Knows nothing of time, of processes or of
verdicts; running is `runner.py`'s work.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sandbox.compare import POISON, Comparison, compare, held, in_next_call
from sandbox.execute import Arena, changed_input, same_bits
from sandbox.observe import WriteObserver
from sandbox.plan import Plan
from sandbox.plan_buffers import stateful_storages
from sandbox.plan_check import Work, dataflow, tensor_refs
from sandbox.reference import Case
from sandbox.runner import Runner
from sandbox.seeding import seed_torch
from sandbox.types import Failure, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What came of a verification. `status` and `failure` are None together when everything agrees.

    `weights` says how parameters got their values, `writes` which buffers each launch wrote (where that was looked at),
    and `spoilt` that a kernel wrote where it must not, so that nothing else in this context can be trusted.
    """

    status: Status | None
    failure: Failure | None
    max_error_ratio: float
    rms_error_ratio: float
    weights: str
    labels: tuple[str, ...] = ()
    writes: list[list[int]] | None = None
    spoilt: bool = False


def verify(runner: Runner, cases: Sequence[Case]) -> Check:
    """Runs every case on fresh, poisoned buffers, one of them twice, and stops at the first that fails.

    It is the second, a stress: there no weight is as construction made it, and that the module changes one is seen.
    Raises CandidateFault.
    """
    # What the last comparison left in torch's cache is unmapped: no candidate finds an answer in old memory.
    torch.cuda.empty_cache()
    checks: list[Check] = []
    for position, case in enumerate(cases):
        twice = position == min(1, len(cases) - 1)
        poisons = POISON if twice else (POISON[position % len(POISON)],)
        checks.append(_verify_case(runner, case, poisons, look=position == 0))
        if checks[-1].status is not None:
            break
    return dataclasses.replace(
        checks[-1],
        max_error_ratio=max(c.max_error_ratio for c in checks),
        rms_error_ratio=max(c.rms_error_ratio for c in checks),
        labels=tuple(sorted({label for c in checks for label in c.labels})),
        writes=checks[0].writes,
    )


def _verify_case(runner: Runner, case: Case, poisons: Sequence[int], *, look: bool) -> Check:
    """Runs one case once for each poison byte; all runs come before any expected value is brought to the device.

    A run after the first is a second call of the same module, on what the first one left in its weights and buffers;
    unless the reference changes its own.

    With `look`, and where it could matter, the first run also sees which buffers the launches write.
    """
    runs: list[list[torch.Tensor]] = []
    writes, how = None, "none"
    kept: dict[int, torch.Tensor] = {}
    runner.reload()  # no case finds what an earlier one left in a kernel's module
    guard_bytes = runner.guard_bytes()
    for poison in poisons:
        arena = Arena(runner.plan, device=runner.device, poison=poison, guard_bytes=guard_bytes)
        if runs and not case.stateful:
            runner.bind_again(arena, case, kept=kept)
        else:
            how = runner.bind(arena, case)
        seed_torch(case.seed)
        if look and not runs and dataflow(runner.plan).work is Work.MIXED:
            observer = WriteObserver(arena, runner.launcher(arena))
            runner.run_some(runner.plan.steps, arena, observer)  # type: ignore[arg-type]
            writes = observer.writes
        else:
            runner.run(arena)
        if (fault := _spoilt(runner.plan, arena, case, how)) is not None:
            return fault
        last = poison == poisons[-1]
        runs.append([output if last else output.clone() for output in runner.outputs(arena)])
        kept = {} if last else arena.hand_over(stateful_storages(runner.plan))
    return dataclasses.replace(_compared(runs, case, how), writes=writes)


def _spoilt(plan: Plan, arena: Arena, case: Case, how: str) -> Check | None:
    """What is wrong with the memory around the answer, or None."""
    if broken := arena.broken_guards():
        names = ", ".join(storage_name(plan, s) for s in broken[:3])
        failure = Failure(error_class="IllegalAccess", message=f"a kernel writes outside its tensor: next to {names}")
        return _failed(Status.ILLEGAL_ACCESS, failure, how, spoilt=True)
    if (changed := changed_input(plan, arena, case.inputs)) is not None:
        message = f"input {changed} is changed in place; write to a new tensor"
        return _failed(Status.WRONG_VALUES, Failure(error_class="InputChanged", message=message), how)
    return None


def _compared(runs: Sequence[Sequence[torch.Tensor]], case: Case, how: str) -> Check:
    """The comparison of the run that differs most, or of the first that fails. The last run is looked at only where
    it is not the first one bit for bit: bringing the answer to the device once more is most of comparing."""
    same = all(same_bits(a, b) for a, b in zip(runs[0], runs[-1], strict=True))
    comparisons: list[Comparison] = []
    expected = held(case.expected)
    for outputs in runs[:-1] if same and len(runs) > 1 else runs:
        comparison = compare(outputs, expected)
        if comparisons:
            comparison = in_next_call(comparison)
        comparisons.append(comparison)
        if comparison.failure is not None:
            break
    return Check(
        status=comparisons[-1].status,
        failure=comparisons[-1].failure,
        max_error_ratio=max(c.max_error_ratio for c in comparisons),
        rms_error_ratio=max(c.rms_error_ratio for c in comparisons),
        weights=how,
        labels=() if same else ("varies_within_tolerance",),
    )


def _failed(status: Status, failure: Failure, how: str, *, spoilt: bool = False) -> Check:
    return Check(
        status=status,
        failure=failure,
        max_error_ratio=math.inf,
        rms_error_ratio=math.inf,
        weights=how,
        spoilt=spoilt,
    )


def storage_name(plan: Plan, storage: int) -> str:
    """A buffer in the candidate's own terms."""

    def first(indices: Sequence[int]) -> int | None:
        return next((at for at, index in enumerate(indices) if plan.values[index].storage == storage), None)

    outputs = list(tensor_refs(plan.outputs))
    if (at := first(plan.inputs)) is not None:
        return f"input {at}"
    if (at := first([index for _, index in plan.weights])) is not None:
        return f"parameter {plan.weights[at][0]}"
    if (at := first(outputs)) is not None:
        return f"output {at}" if len(outputs) > 1 else "the output"
    value = next((v for v in plan.values if v.storage == storage), None)
    return (
        f"buffer {storage}" if value is None else f"an intermediate {value.dtype} tensor of shape {tuple(value.shape)}"
    )
