"""Makes a verified plan ready to be timed in the process that holds it, and answers how long its runs took.

The plan runs in a CUDA graph, or on a stream where it cannot be captured, on input sets of its own that rotate. Holds
no baseline: those run in a process of their own (`baseline_worker.py`). Does not decide what passes, except that a plan
whose time is mostly torch's own does not win, nor one whose timed answers are wrong.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sandbox.agreement import disagreement
from sandbox.capture import (
    AdoptingArena,
    CaptureFailed,
    Flush,
    GraphTimer,
    StreamTimer,
    TimedPlan,
    Timer,
    new_event,
    rotate,
)
from sandbox.compare import POISON, compare
from sandbox.execute import Arena, aten_operator, changed_input
from sandbox.plan import ITEM_BYTES, AtenStep, LaunchStep, Plan
from sandbox.plan_buffers import kept_storages, num_carrying, uses_given
from sandbox.plan_check import step_refs
from sandbox.reference import Case
from sandbox.runner import Runner
from sandbox.seeding import seed_torch
from sandbox.types import Failure

_SHARE_REPLAYS = 7
# A kernel that only reads, or that finds part of its output in L2, beats a copy: the floor is drawn this much lower.
_BANDWIDTH_SAFETY = 1.15
_COPY_BYTES = 1 << 30
# A plan with at most that much memory is run once more after timing, to see the same answer again.
_REPEAT_BYTES = 512 << 20
# Far beyond what the order of atomic additions does; the tight bound is that of the answer that is known.
_REPEAT_BOUND = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What stays the same from one timing to the next. `conditions` are the words for it."""

    flush: Flush
    bandwidth_bytes_per_us: float
    l2_bytes: int
    floor_us: float
    conditions: Mapping[str, str]


def survey(flush: Flush, *, device: torch.device, conditions: Mapping[str, str]) -> Machine:
    """Measures what the device's memory and its events give."""
    bandwidth = _copy_bandwidth(device)
    floor_us = statistics.median(GraphTimer(lambda: None, flush=flush).measure_us() for _ in range(_SHARE_REPLAYS))
    told = {
        **conditions,
        "copy_bandwidth_gb_s": f"{bandwidth / 1e3:.0f}",
        "l2_flush_bytes": str(flush.num_bytes),
        "empty_timer_us": f"{floor_us:.2f}",
    }
    return Machine(
        flush=flush, bandwidth_bytes_per_us=bandwidth, l2_bytes=flush.num_bytes // 2, floor_us=floor_us, conditions=told
    )  # fmt: skip


def _copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per microsecond by the fastest of a few large copies."""
    source = torch.ones(_COPY_BYTES // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(6):
        start, end = new_event(), new_event()
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = min(best, float(start.elapsed_time(end)) * 1e3)
    return 2 * _COPY_BYTES / best


class TimedCandidate:
    """The runner's plan on each of `cases`, ready to be timed. Raises CandidateFault, also for what only shows now."""

    def __init__(self, runner: Runner, cases: Sequence[Case], *, kind: str, machine: Machine) -> None:
        """`kind` is "graph" or "stream"; a plan that cannot be captured becomes "stream", `uncapturable` says why."""
        torch.cuda.empty_cache()  # the answers that verifying left in old memory
        self._runner, self._machine = runner, machine
        self._cases = cases[: _num_sets(runner, len(cases))]
        self._arenas = [_arena(runner, case) for case in self._cases]
        # A run on what was bound says what the plan changes of it: that is put back before each of the others.
        runner.run(self._arenas[0])
        self._bound = runner.changed(self._arenas[0], self._cases[0], kept_storages(runner.plan))
        self._plans = [TimedPlan(runner, arena, bound=self._bound) for arena in self._arenas]
        self.kind, self.uncapturable = kind, None
        self._timers: list[Timer] = []
        if kind == "graph":
            try:
                self._timers = [self._timer(GraphTimer, plan) for plan in self._plans]
            except CaptureFailed as error:
                self.kind, self.uncapturable = "stream", str(error)
        if self.kind == "stream":
            self._timers = [self._timer(StreamTimer, plan) for plan in self._plans]
        self._turn = 0

    def _timer(self, kind: type[GraphTimer] | type[StreamTimer], plan: TimedPlan) -> Timer:
        return self._runner.guarded(lambda: kind(plan.run, flush=self._machine.flush, before=plan.forget))

    @property
    def num_sets(self) -> int:
        return len(self._cases)

    def measure_us(self, replays: int) -> list[float]:
        """Device times, the input sets in turn."""
        times_us, self._turn = self._runner.guarded(lambda: rotate(self._timers, turn=self._turn, replays=replays))
        return times_us

    def kernel_share(self) -> float:
        """The share of the device time that is the kernels': the less of what they take alone and what the operators
        alone leave over. A kernel that notices that it is timed alone could take longer then. Operators that work on
        nothing of the problem's are no part of its work: beside a kernel of microseconds, zeros take as long. Nor are
        copies for the next call alone.

        What an empty timer shows is taken off each. Raises CandidateFault, torch.OutOfMemoryError.
        """
        plan = self._runner.plan
        steps = list(zip(plan.steps, uses_given(plan), strict=True))[: len(plan.steps) - num_carrying(plan)]
        launches = [isinstance(step, LaunchStep) for step, used in steps if used or isinstance(step, LaunchStep)]
        if all(launches) or not any(launches):
            return float(any(launches))
        whole = self._median_us(self._timers[0])
        # On memory of its own, where what the other part has made stays: operators come last, as they make it anew.
        apart = TimedPlan(self._runner, _arena(self._runner, self._cases[0]), bound=self._bound, keep=True)
        self._runner.guarded(apart.run)
        kernels = self._median_us(self._alone(apart.run_launches))
        operators = self._median_us(self._alone(apart.run_operators))
        return max(0.0, min(1.0, kernels / whole, 1 - operators / whole))

    def _alone(self, work: Callable[[], None]) -> Timer:
        kind = type(self._timers[0])
        return self._runner.guarded(lambda: kind(work, flush=self._machine.flush))  # type: ignore[call-arg]

    def _median_us(self, timer: Timer) -> float:
        measured = statistics.median(self._runner.guarded(timer.measure_us) for _ in range(_SHARE_REPLAYS))
        return max(measured - self._machine.floor_us, 1e-3)

    def check(self, verified: Case) -> Failure | None:
        """Looks at the last answer on timed inputs, and runs the very thing that was timed on inputs that it has not
        seen. `verified` is a case whose answer is known and was never computed for timing."""
        if (failure := self._same_again() or self._keeps()) is not None:
            return failure
        runner, arena = self._runner, self._arenas[0]
        runner.bind(arena, verified)
        seed_torch(verified.seed)
        runner.guarded(self._timers[0].measure_us)
        return compare(runner.outputs(arena), verified.expected).failure

    def _same_again(self) -> Failure | None:
        """What the last replay left must be what the plan, run as it was verified, makes of the same inputs.

        Not looked at where that would take much memory, or where operators draw random numbers.
        """
        runner = self._runner
        if sum(storage.num_bytes for storage in runner.plan.storages) > _REPEAT_BYTES or _draws(runner.plan):
            return None
        arena = Arena(runner.plan, device=runner.device, poison=POISON[1], guard_bytes=runner.guard_bytes())
        runner.bind(arena, self._cases[0])
        seed_torch(self._cases[0].seed)
        runner.run(arena)
        reason = disagreement(runner.outputs(self._arenas[0]), runner.outputs(arena), bound=_REPEAT_BOUND)
        if reason is None:
            return None
        return Failure(error_class="TimedAnswer", message=f"when timed, it gives another answer: {reason}")

    def _keeps(self) -> Failure | None:
        """What a run leaves for the next one is put back, if the first run left it too; other things it must not."""
        runner, storages = self._runner, kept_storages(self._runner.plan) - self._bound.keys()
        for arena, case in zip(self._arenas, self._cases, strict=True):
            if changed_input(runner.plan, arena, case.inputs) is not None or runner.changed(arena, case, storages):
                message = "when timed, a kernel keeps something for its next run"
                return Failure(error_class="TimedAnswer", message=message)
        return None


def _draws(plan: Plan) -> bool:
    operators = [aten_operator(step.op) for step in plan.steps if isinstance(step, AtenStep)]
    return any(torch.Tag.nondeterministic_seeded in operator.tags for operator in operators)


def too_little_in_kernels(share: float, least: float | None) -> Failure | None:
    """The failure of a plan whose kernels take less than `least` of its time; None lets torch's operators take all."""
    return None if least is None or share >= least else _share_failure(share, least)


def _share_failure(share: float, least: float) -> Failure:
    message = f"most of the device time is spent in torch operators: {share:.0%} in Triton kernels, needed {least:.0%}"
    return Failure(error_class="KernelShare", message=message)


def _num_sets(runner: Runner, most: int) -> int:
    """As many input sets as fit into half of the free memory, at least one."""
    free = torch.cuda.mem_get_info(runner.device)[0]
    each = sum(storage.num_bytes for storage in runner.plan.storages)
    return max(1, min(most, int(free // 2 // max(each, 1))))


def _arena(runner: Runner, case: Case) -> AdoptingArena:
    arena = AdoptingArena(runner.plan, device=runner.device, poison=POISON[0])
    runner.bind(arena, case)
    seed_torch(case.seed)
    return arena


def floor_us(plan: Plan, case: Case, machine: Machine) -> float:
    """The roofline: the time to read inputs and weights and to write outputs once, at the bandwidth of a copy.

    As much of the outputs as L2 holds is left out, since it may not reach memory before the clock stops.
    """
    return (_moved_bytes(case, machine) + _weight_bytes(plan)) / machine.bandwidth_bytes_per_us


def least_plausible_us(case: Case, machine: Machine) -> float:
    """Below this, a time is an error of measurement or a cheat. Weights are left out: a table may be read in part."""
    return _moved_bytes(case, machine) / (machine.bandwidth_bytes_per_us * _BANDWIDTH_SAFETY)


def _moved_bytes(case: Case, machine: Machine) -> int:
    # Expanded inputs have fewer elements in memory than in their shape.
    inputs = sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in case.inputs)
    outputs = sum(torch.Size(e.shape).numel() * ITEM_BYTES[e.dtype] for e in case.expected)
    return inputs + max(0, outputs - machine.l2_bytes)


def _weight_bytes(plan: Plan) -> int:
    """Bytes of the buffers with weights that a step of the forward pass is given."""
    steps = (step for step in plan.steps if isinstance(step, AtenStep | LaunchStep))
    storages = {plan.values[index].storage for step in steps for index in step_refs(plan, step)}
    return sum(plan.storages[s].num_bytes for s in {plan.values[v].storage for _, v in plan.weights} & storages)
