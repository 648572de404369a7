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
from sandbox.next_call import NextCall
from sandbox.observe import WriteObserver
from sandbox.plan import Plan
from sandbox.plan_buffers import stateful_storages
from sandbox.plan_check import Work, dataflow, tensor_refs
from sandbox.reference import Case
from sandbox.runner import Runner
from sandbox.seeding import seed_torch
from sandbox.seeds import called_again
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


def verify(runner: Runner, cases: Sequence[Case], *, next_call: NextCall) -> Check:
    """Runs every case on fresh, poisoned buffers, one of them (`seeds.called_again`) more than once, and stops at the
    first that fails.

    `next_call` comes after that one: it is asked for where the module or the reference keeps something from one call to
    the next. Raises CandidateFault, and InadmissibleProblem where the reference fails.
    """
    # What the last comparison left in torch's cache is unmapped: no candidate finds an answer in old memory.
    torch.cuda.empty_cache()
    checks: list[Check] = []
    for position, case in enumerate(cases):
        look = position == 0
        if position == called_again(len(cases)):
            checks.append(_verify_calls(runner, case, next_call, look=look))
        else:
            run = _Run(runner, case, POISON[position % len(POISON)], look=look)
            check = run.fault or _compared([run.answer(last=True)], case, run.weights)
            checks.append(dataclasses.replace(check, writes=run.writes))
        if checks[-1].status is not None:
            break
    return dataclasses.replace(
        checks[-1],
        max_error_ratio=max(c.max_error_ratio for c in checks),
        rms_error_ratio=max(c.rms_error_ratio for c in checks),
        labels=tuple(sorted({label for c in checks for label in c.labels})),
        writes=checks[0].writes,
    )


class _Run:
    """One call of a module on buffers of its own, poisoned; what came of it, unless there is a fault.

    `before` is the call before, of the same module: then weights and buffers are as that one left them, and its memory
    is let go. With `look`, and where it could matter, it is seen which buffers the launches write.
    """

    def __init__(
        self,
        runner: Runner,
        case: Case,
        poison: int,
        *,
        look: bool = False,
        before: _Run | None = None,
        inputs: Sequence[torch.Tensor] | None = None,
    ) -> None:
        """Raises CandidateFault."""
        self._runner, self._inputs = runner, case.inputs if inputs is None else inputs
        self._arena: Arena
        if before is None:
            runner.reload()  # no case finds what an earlier one left in a kernel's module
        guard_bytes = runner.guard_bytes() if before is None else before._arena.guard_bytes
        plan = runner.plan
        arena = Arena(plan, device=runner.device, poison=poison, guard_bytes=guard_bytes)
        if before is None:
            self.weights = runner.bind(arena, case)
        else:
            self.weights = before.weights
            kept = before._arena.hand_over(stateful_storages(plan))
            before.let_go()
            runner.bind_again(arena, self._inputs, kept=kept)
        self._arena = arena
        self.writes: list[list[int]] | None = None
        seed_torch(case.seed)
        if look and dataflow(plan).work is Work.MIXED:
            observer = WriteObserver(arena, runner.launcher(arena))
            runner.run_some(plan.steps, arena, observer)  # type: ignore[arg-type]
            self.writes = observer.writes
        else:
            runner.run(arena)
        self.fault = _spoilt(plan, arena, self._inputs, self.weights)

    def answer(self, *, last: bool) -> list[torch.Tensor]:
        """The outputs; in memory of their own where it is not the `last` call."""
        outputs = self._runner.outputs(self._arena)
        return outputs if last else [output.clone() for output in outputs]

    def changed_state(self, case: Case) -> bool:
        """Whether the call changed what its module keeps."""
        return self._runner.changed_state(self._arena, case)

    def let_go(self) -> None:
        """Drops the buffers; an answer that was taken stays."""
        self._arena.hand_over(self._arena.made())


def _verify_calls(runner: Runner, case: Case, next_call: NextCall, *, look: bool) -> Check:
    """Calls one module again and again: twice on the same inputs, with other poison; and where the first call changed
    what the module keeps, on other inputs and on the first ones once more.

    Where the reference changes its own, the second call is of another module and the third, on other inputs, goes on
    from there. All calls come before any expected value is brought to the device.
    """
    first = _Run(runner, case, POISON[0], look=look)
    if first.fault is not None:
        return first.fault
    more = case.stateful or first.changed_state(case)
    calls, answers, followed = [first], [first.answer(last=False)], []
    if case.stateful:
        first.let_go()
    second = _Run(runner, case, POISON[1], before=None if case.stateful else first)
    calls.append(second)
    answers.append(second.answer(last=not more))
    if more and second.fault is None:
        calls.append(_Run(runner, case, POISON[0], before=second, inputs=next_call.inputs()))
        followed.append(calls[-1].answer(last=case.stateful))
        if not case.stateful and calls[-1].fault is None:
            calls.append(_Run(runner, case, POISON[1], before=calls[-1]))
            answers.append(calls[-1].answer(last=True))
    if (fault := next((call.fault for call in calls if call.fault is not None), None)) is not None:
        return fault
    check = dataclasses.replace(_compared(answers, case, first.weights), writes=first.writes)
    if check.status is None and followed:
        found = _compared(followed, next_call.answered(), first.weights, first_call=False)
        check = dataclasses.replace(
            found,
            max_error_ratio=max(check.max_error_ratio, found.max_error_ratio),
            rms_error_ratio=max(check.rms_error_ratio, found.rms_error_ratio),
            labels=check.labels,
            writes=check.writes,
        )
    return check


def _spoilt(plan: Plan, arena: Arena, inputs: Sequence[torch.Tensor], how: str) -> Check | None:
    """What is wrong with the memory around the answer, or None."""
    if broken := arena.broken_guards():
        names = ", ".join(storage_name(plan, s) for s in broken[:3])
        failure = Failure(error_class="IllegalAccess", message=f"a kernel writes outside its tensor: next to {names}")
        return _failed(Status.ILLEGAL_ACCESS, failure, how, spoilt=True)
    if (changed := changed_input(plan, arena, inputs)) is not None:
        message = f"input {changed} is changed in place; write to a new tensor"
        return _failed(Status.WRONG_VALUES, Failure(error_class="InputChanged", message=message), how)
    return None


def _compared(answers: Sequence[Sequence[torch.Tensor]], case: Case, how: str, *, first_call: bool = True) -> Check:
    """The comparison of the answer that differs most, or of the first that fails. Those that are the first one bit for
    bit are not looked at: bringing the answer to the device once more is most of comparing."""
    differ = [not all(same_bits(a, b) for a, b in zip(answers[0], other, strict=True)) for other in answers[1:]]
    comparisons: list[Comparison] = []
    expected = held(case.expected)
    for position, outputs in enumerate(answers):
        if position and not differ[position - 1]:
            continue
        comparison = compare(outputs, expected)
        if position or not first_call:
            comparison = in_next_call(comparison, same_inputs=first_call)
        comparisons.append(comparison)
        if comparison.failure is not None:
            break
    return Check(
        status=comparisons[-1].status,
        failure=comparisons[-1].failure,
        max_error_ratio=max(c.max_error_ratio for c in comparisons),
        rms_error_ratio=max(c.rms_error_ratio for c in comparisons),
        weights=how,
        labels=("varies_within_tolerance",) if any(differ) else (),
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
