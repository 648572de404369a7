"""Runs a plan on a GPU and says whether its answer is right.

Kernels go through `cuda_driver.py`, operators through `execute.py`. The expected answers stay on the host until the candidate's kernels have
run. Knows nothing of time, of processes or of verdicts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from sandbox.compare import POISON, Comparison, compare
from sandbox.cuda_driver import (
    CudaDriver,
    DeviceMemoryFault,
    DriverFault,
    LaunchFault,
    LoadedKernel,
    PreparedLaunch,
    StickyFault,
)
from sandbox.execute import Arena, bind_inputs, initialise, run_steps
from sandbox.plan import ITEM_BYTES, AtenStep, LaunchStep, Plan, PlanError, resolve
from sandbox.plan_check import tensor_refs
from sandbox.reference import Case
from sandbox.types import Failure, Pattern, Status

# Width of the bands around each buffer, widest first; a narrower one is taken where memory is short.
_GUARD_BYTES = (1 << 20, 64 << 10, 4 << 10)
_GUARD_SHARE = 0.1  # of the free memory, at most


ResultT = TypeVar("ResultT")


class CandidateFault(RuntimeError):
    """The candidate's plan cannot be run to its end. `dead` says that the CUDA context went with it."""

    def __init__(self, status: Status, error_class: str, message: str, dead: bool) -> None:
        super().__init__(status, error_class, message, dead)
        self.status, self.dead = status, dead
        self.failure = Failure(error_class=error_class, message=message[:2000])


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What came of a verification. `status` and `failure` are None together when everything agrees.

    `weights` says how parameters got their values, `spoilt` that a kernel wrote where it must not, so that nothing else in this
    context can be trusted.
    """

    status: Status | None
    failure: Failure | None
    max_error_ratio: float
    rms_error_ratio: float
    weights: str
    labels: tuple[str, ...] = ()
    spoilt: bool = False


class Runner:
    """One plan on the GPU: its kernels loaded, its weights drawn, its steps ready to be run again and again."""

    def __init__(self, plan: Plan, *, driver: CudaDriver, device: torch.device) -> None:
        self.plan, self.driver, self.device = plan, driver, device
        self._kernels: dict[int, LoadedKernel] = {}
        self._initial: dict[int, tuple[Arena, str]] = {}

    def resolve(self, choices: tuple[int, ...]) -> None:
        """Settles the plan's choices for good."""
        self.plan = resolve(self.plan, choices)

    def guard_bytes(self) -> int:
        """The widest guard bands that leave room for the buffers."""
        free = torch.cuda.mem_get_info(self.device)[0]
        count = 2 * max(len(self.plan.storages), 1)
        return next((width for width in _GUARD_BYTES if width * count <= free * _GUARD_SHARE), _GUARD_BYTES[-1])

    def bind(self, arena: Arena, case: Case) -> str:
        """Puts weights and inputs of `case` into the arena. Says how parameters got their values. Raises CandidateFault."""
        if case.seed not in self._initial:
            self._initial[case.seed] = self.guarded(lambda: initialise(self.plan, seed=case.seed, weights=case.weights))
        initial, how = self._initial[case.seed]
        arena.load(initial)
        self.guarded(lambda: bind_inputs(self.plan, arena, case.inputs))
        return how

    def run(self, arena: Arena) -> None:
        """Runs the resolved plan once and waits for it. Raises CandidateFault."""
        self.run_some(self.plan.steps, arena, self.launcher(arena))  # type: ignore[arg-type]

    def run_some(
        self,
        steps: Sequence[AtenStep | LaunchStep],
        arena: Arena,
        launch: Callable[[LaunchStep], None],
        *,
        wait: bool = True,
    ) -> None:
        """Runs `steps`, and waits for them if asked to. Raises CandidateFault."""

        def work() -> None:
            run_steps(steps, arena, launch)
            if wait:
                self.driver.synchronise()

        self.guarded(work)

    def launcher(self, arena: Arena) -> Callable[[LaunchStep], None]:
        """Launches steps on torch's current stream; a step that comes again on the same buffers is not packed again."""
        prepared: dict[int, tuple[tuple[int, ...], PreparedLaunch]] = {}

        def launch(step: LaunchStep) -> None:
            kernel = self._kernel(step.kernel)
            pointers = {i: address_of(arena, i) for i in _pointer_values(step, kernel)}
            known = prepared.get(id(step))
            if known is None or known[0] != tuple(pointers.values()):
                known = prepared[id(step)] = (tuple(pointers.values()), kernel.prepare(step, pointers.__getitem__))
            known[1](torch.cuda.current_stream(self.device).cuda_stream)

        return launch

    def _kernel(self, index: int) -> LoadedKernel:
        if index not in self._kernels:
            self._kernels[index] = self.driver.load(self.plan.kernels[index])
        return self._kernels[index]

    def guarded(self, work: Callable[[], ResultT]) -> ResultT:
        """Runs something of the candidate's; tells its faults from ours."""
        try:
            return work()
        except DriverFault:
            raise
        except StickyFault as error:
            raise self._sticky(error) from error
        except LaunchFault as error:
            raise CandidateFault(Status.LAUNCH_ERROR, type(error).__name__, str(error), False) from error
        except PlanError as error:
            raise CandidateFault(Status.TRACE_ERROR, type(error).__name__, str(error), False) from error
        except (torch.OutOfMemoryError, DeviceMemoryFault) as error:
            message = "the candidate's tensors do not fit into the GPU's memory"
            raise CandidateFault(Status.OUT_OF_MEMORY, "OutOfMemory", message, False) from error
        except (RuntimeError, TypeError, ValueError, IndexError, OverflowError) as error:
            # An operator refused its arguments, or it is only the first to hear of a kernel that went wrong before it.
            try:
                self.driver.synchronise()
            except StickyFault as sticky:
                raise self._sticky(sticky) from error
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CandidateFault(Status.LAUNCH_ERROR, type(error).__name__, lines[0], False) from error

    def _sticky(self, error: StickyFault) -> CandidateFault:
        names = sorted({kernel.name for kernel in self.plan.kernels})
        message = f"{error.result.lower().replace('_', ' ')} in a kernel ({', '.join(names)})"
        return CandidateFault(error.status, "CudaError", message, True)

    def outputs(self, arena: Arena) -> list[torch.Tensor]:
        """The output tensors, in order."""
        return [arena.tensor(index) for index in tensor_refs(self.plan.outputs)]

    def close(self) -> None:
        """Unloads the kernels. Whoever captured a graph has dropped it."""
        self.driver.synchronise()
        for kernel in self._kernels.values():
            kernel.unload()
        self._kernels.clear()


def _pointer_values(step: LaunchStep, kernel: LoadedKernel) -> list[int]:
    params = zip(step.args, kernel.kernel.params, strict=True)
    return [int(argument) for argument, (_, kind) in params if kind.startswith("*")]  # type: ignore[arg-type]


def address_of(arena: Arena, value: int) -> int:
    """The device address of a value's first element."""
    record = arena.plan.values[value]
    return arena.buffer(record.storage).data_ptr() + record.offset * ITEM_BYTES[record.dtype]


def verify(runner: Runner, cases: Sequence[Case]) -> Check:
    """Runs every case on fresh, poisoned buffers, the first one twice, and stops at the first that fails. Raises CandidateFault."""
    # What the last comparison left in torch's cache is unmapped: no candidate finds an answer in old memory.
    torch.cuda.empty_cache()
    worst, worst_rms, how, labels = 0.0, 0.0, "none", set[str]()
    for position, case in enumerate(cases):
        poisons = POISON if position == 0 else (POISON[position % len(POISON)],)
        check = _verify_case(runner, case, poisons)
        worst, worst_rms = max(worst, check.max_error_ratio), max(worst_rms, check.rms_error_ratio)
        how = check.weights
        labels |= set(check.labels)
        if check.status is not None:
            break
    return dataclasses.replace(
        check, max_error_ratio=worst, rms_error_ratio=worst_rms, weights=how, labels=tuple(sorted(labels))
    )


def _verify_case(runner: Runner, case: Case, poisons: Sequence[int]) -> Check:
    """Runs one case once for each poison byte; all runs come before any expected value is brought to the device."""
    runs: list[list[torch.Tensor]] = []
    for poison in poisons:
        arena = Arena(runner.plan, device=runner.device, poison=poison, guard_bytes=runner.guard_bytes())
        how = runner.bind(arena, case)
        torch.manual_seed(case.seed)
        runner.run(arena)
        if broken := arena.broken_guards():
            message = f"a kernel writes outside its tensor: next to {', '.join(storage_name(runner.plan, s) for s in broken[:3])}"
            return _check(
                Status.ILLEGAL_ACCESS, Failure(error_class="IllegalAccess", message=message), how, spoilt=True
            )
        if (changed := changed_input(runner.plan, arena, case)) is not None:
            message = f"input {changed} is changed in place; write to a new tensor"
            return _check(Status.WRONG_VALUES, Failure(error_class="InputChanged", message=message), how)
        last = poison == poisons[-1]
        runs.append([output if last else output.clone() for output in runner.outputs(arena)])
    return _compared(runs, case, how)


def _compared(runs: Sequence[Sequence[torch.Tensor]], case: Case, how: str) -> Check:
    """The comparison of the run that differs most, or of the first that fails."""
    comparisons: list[Comparison] = []
    for outputs in runs:
        comparison = compare(outputs, case.expected)
        if comparison.failure is not None and comparisons:  # an earlier run of the same case agreed
            comparison = dataclasses.replace(comparison, failure=_run_to_run(comparison.failure))
        comparisons.append(comparison)
        if comparison.failure is not None:
            break
    same = all(_same_bits(a, b) for a, b in zip(runs[0], runs[-1], strict=True))
    return Check(
        status=comparisons[-1].status,
        failure=comparisons[-1].failure,
        max_error_ratio=max(c.max_error_ratio for c in comparisons),
        rms_error_ratio=max(c.rms_error_ratio for c in comparisons),
        weights=how,
        labels=() if same else ("varies_within_tolerance",),
    )


def _run_to_run(failure: Failure) -> Failure:
    if failure.mismatch is None:
        return failure
    mismatch = dataclasses.replace(failure.mismatch, pattern=Pattern.RUN_TO_RUN)
    return dataclasses.replace(
        failure, mismatch=mismatch, message=f"{failure.message} in a second run on the same inputs"
    )


def _check(status: Status, failure: Failure, how: str, *, spoilt: bool = False) -> Check:
    infinite = float("inf")
    return Check(
        status=status, failure=failure, max_error_ratio=infinite, rms_error_ratio=infinite, weights=how, spoilt=spoilt
    )  # fmt: skip


def changed_input(plan: Plan, arena: Arena, case: Case) -> int | None:
    """The position of the first input that no longer holds what was bound, or None."""
    for position, (index, given) in enumerate(zip(plan.inputs, case.inputs, strict=True)):
        if not _same_bits(arena.tensor(index), given):
            return position
    return None


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same bits, so that NaN equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.view(whole), b.view(whole))


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
