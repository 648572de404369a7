"""Times a verified plan against the eager reference, interleaved on one GPU, and says under which conditions.

The candidate and the baseline each run in a CUDA graph (both on a stream where one of them cannot be captured), A B
A B, on input sets of their own that rotate. Does not decide what passes, except that a plan whose time is mostly
torch's own does not win.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sandbox.capture import AdoptingArena, CaptureFailed, Flush, GraphTimer, StreamTimer, TimedPlan, Timer, new_event
from sandbox.compare import POISON, compare
from sandbox.plan import ITEM_BYTES, LaunchStep
from sandbox.reference import Case, Reference
from sandbox.runner import Runner
from sandbox.spread import MIN_VALUES, spread
from sandbox.types import Failure, Performance, Status

PRECISION = "ieee: no TF32 in matmul or cuDNN, no reduced-precision accumulation in fp16 or bf16"

_WARM_UP_SECONDS = 0.03  # an idle GPU takes some milliseconds to raise its clock
_MAX_REPLAYS_PER_ROUND = 10
_REPLAY_OVERHEAD_US = 200.0  # flushing L2 and waiting for the device, for each replay
_SHARE_REPLAYS = 7
# A kernel that only reads, or that finds part of its output in L2, beats a copy: the floor is drawn this much lower.
_BANDWIDTH_SAFETY = 1.15
_COPY_BYTES = 1 << 30


class ImplausibleTime(RuntimeError):
    """A time under the roofline floor: an error of measurement or a cheat, never a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedSet:
    """One set of inputs for timing, and the eager reference on it."""

    case: Case
    call: Callable[[], object]
    timer: Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The eager reference, ready to be timed. `uncapturable` is CUDA's reason why it runs on a stream, or None."""

    sets: tuple[TimedSet, ...]
    uncapturable: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What stays the same from one timing to the next. `conditions` are the words for it."""

    flush: Flush
    bandwidth_bytes_per_us: float
    l2_bytes: int
    floor_us: float
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Either a performance, or the status and failure of a plan that does not win."""

    performance: Performance | None
    status: Status | None = None
    failure: Failure | None = None


def survey(flush: Flush, *, device: torch.device, conditions: Mapping[str, str]) -> Machine:
    """Measures what the device's memory and its events give."""
    bandwidth = _copy_bandwidth(device)
    floor_us = statistics.median(GraphTimer(lambda: None, flush=flush).measure_us() for _ in range(_SHARE_REPLAYS))
    told = {
        **conditions,
        "precision": PRECISION,
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


def prepare_baseline(reference: Reference, cases: Sequence[Case], *, flush: Flush) -> Baseline:
    """The eager reference on each case, in a CUDA graph if it can be captured."""
    calls = [(case, reference.baseline(case)) for case in cases]
    try:
        timers: list[Timer] = [GraphTimer(call, flush=flush) for _, call in calls]
        reason = None
    except CaptureFailed as error:
        timers, reason = [StreamTimer(call, flush=flush) for _, call in calls], f"the reference: {error}"
    sets = (TimedSet(case=c, call=call, timer=t) for (c, call), t in zip(calls, timers, strict=True))
    return Baseline(sets=tuple(sets), uncapturable=reason)


def measure(
    runner: Runner,
    baseline: Baseline,
    *,
    verified: Case,
    machine: Machine,
    min_kernel_share: float | None,
    num_rounds: int,
    seconds: float,
) -> Timing:
    """Times the runner's plan. `verified` is a case whose answer is known and was never computed for timing.

    `min_kernel_share` None lets torch's operators take all the time. Raises ImplausibleTime, and CandidateFault for
    faults that only show now.
    """
    torch.cuda.empty_cache()  # the answers that verifying left in old memory
    sets = baseline.sets[: _num_sets(runner, len(baseline.sets))]
    arenas = [_arena(runner, item.case) for item in sets]
    plans = [TimedPlan(runner, arena) for arena in arenas]
    candidates, references, reason = _timers(runner, plans, sets, baseline, flush=machine.flush)
    share = _kernel_share(runner, plans[0], candidates[0], machine)
    if min_kernel_share is not None and share < min_kernel_share:
        return _lost(Status.REJECTED, _share_failure(share, min_kernel_share))
    rounds = runner.guarded(lambda: interleave(candidates, references, num_rounds=num_rounds, seconds=seconds))
    told = {
        **machine.conditions,
        **_clock(runner.device),
        "timer": "cuda graph, event nodes" if reason is None else f"stream, events ({reason})",
        "input_sets": str(len(sets)),
        "replays_per_round": str(rounds.replays_per_round),
        "kernel_share": f"{share:.3f}",
    }
    if (failure := _check_timed(runner, arenas[0], candidates[0], verified)) is not None:
        return _lost(Status.WRONG_VALUES, failure)
    performance, least_us = performance_of(rounds, conditions=told), roofline_us(verified, machine)
    if performance.runtime_us < least_us:
        raise ImplausibleTime(f"{performance.runtime_us:.2f} us, where moving the bytes once takes {least_us:.2f} us")
    return Timing(performance=performance)


def _share_failure(share: float, least: float) -> Failure:
    message = f"most of the device time is spent in torch operators: {share:.0%} in Triton kernels, needed {least:.0%}"
    return Failure(error_class="KernelShare", message=message)


def _lost(status: Status, failure: Failure) -> Timing:
    return Timing(performance=None, status=status, failure=failure)


def _num_sets(runner: Runner, most: int) -> int:
    """As many input sets as fit into half of the free memory, at least one."""
    free = torch.cuda.mem_get_info(runner.device)[0]
    each = sum(storage.num_bytes for storage in runner.plan.storages)
    return max(1, min(most, int(free // 2 // max(each, 1))))


def _arena(runner: Runner, case: Case) -> AdoptingArena:
    arena = AdoptingArena(runner.plan, device=runner.device, poison=POISON[0])
    runner.bind(arena, case)
    torch.manual_seed(case.seed)
    return arena


def _timers(
    runner: Runner, plans: Sequence[TimedPlan], sets: Sequence[TimedSet], baseline: Baseline, *, flush: Flush
) -> tuple[list[Timer], list[Timer], str | None]:
    """Timers of one kind for both sides, and the reason if that kind is not the graph."""
    reason = baseline.uncapturable
    if reason is None:
        try:
            graphs: list[Timer] = [runner.guarded(lambda p=plan: GraphTimer(p.run, flush=flush)) for plan in plans]  # type: ignore[misc]
            return graphs, [item.timer for item in sets], None
        except CaptureFailed as error:
            reason = f"the candidate: {error}"
    streams: list[Timer] = [runner.guarded(lambda p=plan: StreamTimer(p.run, flush=flush)) for plan in plans]  # type: ignore[misc]
    return streams, [StreamTimer(item.call, flush=flush) for item in sets], reason


def _kernel_share(runner: Runner, plan: TimedPlan, whole: Timer, machine: Machine) -> float:
    """The share of the device time that the kernels take alone; what an empty timer shows is taken off both."""
    launches = [isinstance(step, LaunchStep) for step in runner.plan.steps]
    if all(launches) or not any(launches):
        return float(any(launches))
    kind = type(whole)
    kernels: Timer = runner.guarded(lambda: kind(plan.run_launches, flush=machine.flush))  # type: ignore[call-arg]

    def median_us(timer: Timer) -> float:
        measured = statistics.median(runner.guarded(timer.measure_us) for _ in range(_SHARE_REPLAYS))
        return max(measured - machine.floor_us, 1e-3)

    return min(1.0, median_us(kernels) / median_us(whole))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Device times in microseconds, one of each side a round; each is the median of that round's replays."""

    candidate_us: tuple[float, ...]
    baseline_us: tuple[float, ...]
    replays_per_round: int


def interleave(candidates: Sequence[Timer], baselines: Sequence[Timer], *, num_rounds: int, seconds: float) -> Rounds:
    """Measures A B A B, the input sets in turn, for `num_rounds` or until `seconds` are over (never too few)."""
    start = time.monotonic()
    while True:
        pair_us = candidates[0].measure_us() + baselines[0].measure_us()
        if time.monotonic() - start > _WARM_UP_SECONDS:
            break
    least = max(num_rounds, MIN_VALUES)
    replays = int(seconds * 1e6 / (least * (pair_us + 2 * _REPLAY_OVERHEAD_US)))
    replays = max(1, min(replays, _MAX_REPLAYS_PER_ROUND))
    ours: list[float] = []
    theirs: list[float] = []
    turn = 0
    while len(ours) < MIN_VALUES or (len(ours) < least and time.monotonic() - start < seconds):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(replays):
            times[0].append(candidates[turn % len(candidates)].measure_us())
            times[1].append(baselines[turn % len(baselines)].measure_us())
            turn += 1
        ours.append(statistics.median(times[0]))
        theirs.append(statistics.median(times[1]))
    return Rounds(candidate_us=tuple(ours), baseline_us=tuple(theirs), replays_per_round=replays)


def performance_of(rounds: Rounds, *, conditions: Mapping[str, str]) -> Performance:
    """The speedup is the median over rounds of baseline / candidate, so that a slow drift of the clock cancels."""
    ratios = spread([b / a for a, b in zip(rounds.candidate_us, rounds.baseline_us, strict=True)])
    return Performance(
        runtime_us=statistics.median(rounds.candidate_us),
        baseline_us={"eager": statistics.median(rounds.baseline_us)},
        against="eager",
        speedup=ratios.median,
        speedup_low=ratios.low,
        speedup_high=ratios.high,
        repetitions=len(rounds.candidate_us),
        conditions=dict(conditions),
    )


def roofline_us(case: Case, machine: Machine) -> float:
    """The least time in which inputs can be read and outputs written once.

    As much of the outputs as L2 holds is left out, since it may not reach memory before the clock stops.
    """
    inputs = sum(t.numel() * t.element_size() for t in case.inputs)
    outputs = sum(torch.Size(e.shape).numel() * ITEM_BYTES[e.dtype] for e in case.expected)
    moved = inputs + max(0, outputs - machine.l2_bytes)
    return moved / (machine.bandwidth_bytes_per_us * _BANDWIDTH_SAFETY)


def _check_timed(runner: Runner, arena: AdoptingArena, timer: Timer, verified: Case) -> Failure | None:
    """Runs the very thing that was timed on inputs that it has not seen, and compares."""
    runner.bind(arena, verified)
    torch.manual_seed(verified.seed)
    runner.guarded(timer.measure_us)
    comparison = compare(runner.outputs(arena), verified.expected)
    return comparison.failure


def _clock(device: torch.device) -> dict[str, str]:
    """The SM clock right after the last kernel, where NVML's Python package is there to ask."""
    try:
        return {"sm_clock_mhz": str(torch.cuda.clock_rate(device))}
    except (ImportError, RuntimeError):
        return {}
