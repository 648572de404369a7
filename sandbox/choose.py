"""Settles a plan's autotuned launches: each alternative is timed on real buffers, and the fastest is taken.

Does not check answers: the plan is verified after its choices are settled.
"""

from __future__ import annotations

import math
import statistics

from sandbox.capture import Flush, new_event
from sandbox.compare import POISON
from sandbox.execute import Arena
from sandbox.plan import ChoiceStep
from sandbox.reference import Case
from sandbox.runner import CandidateFault, Runner

_MAX_RUNS = 10
_HOPELESS = 4.0  # an alternative so many times slower than the best is not run again
_LOADING_US = 10_000.0  # more than loading a module takes
_RUNS_US = 20_000.0  # about how long one alternative is measured


def choose(runner: Runner, case: Case, *, flush: Flush) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Resolves the runner's plan to its fastest alternatives on `case`; returns which and their names.

    Raises CandidateFault.
    """
    if not any(isinstance(step, ChoiceStep) for step in runner.plan.steps):
        return (), ()
    arena = Arena(runner.plan, device=runner.device, poison=POISON[0], guard_bytes=runner.guard_bytes())
    runner.bind(arena, case)
    choices: list[int] = []
    names: list[str] = []
    launch = runner.launcher(arena)
    for step in runner.plan.steps:
        if isinstance(step, ChoiceStep):
            best = _fastest(runner, step, arena, flush)
            choices.append(best)
            names.append(step.names[best])
            runner.run_some(step.alternatives[best], arena, launch)
        else:
            runner.run_some((step,), arena, launch)
    runner.resolve(tuple(choices))
    return tuple(choices), tuple(names)


def _fastest(runner: Runner, step: ChoiceStep, arena: Arena, flush: Flush) -> int:
    """The index of the fastest alternative that can be launched at all. Raises the last one's fault if none can."""
    times: dict[int, float] = {}
    last: CandidateFault | None = None
    for index in range(len(step.alternatives)):
        try:
            times[index] = _time_us(runner, step, index, arena, flush, best_us=min(times.values(), default=math.inf))
        except CandidateFault as fault:
            if fault.dead:
                raise
            last = fault
    if not times and last is not None:
        raise last
    return min(times, key=times.__getitem__)


def _time_us(runner: Runner, step: ChoiceStep, index: int, arena: Arena, flush: Flush, *, best_us: float) -> float:
    """The median of several runs; of one that is far slower than `best_us`, the first run's time."""
    steps, launch = step.alternatives[index], runner.launcher(arena)
    start, end = new_event(), new_event()

    def once() -> float:
        flush.reset_persisting()
        flush.write()
        start.record()
        runner.run_some(steps, arena, launch, wait=False)
        end.record()
        runner.run_some((), arena, launch)
        return float(start.elapsed_time(end)) * 1e3

    cold = once()  # loads the kernel, between the events too
    if cold > _HOPELESS * best_us + _LOADING_US:
        return cold
    first = once()
    if first > _HOPELESS * best_us:
        return first
    runs = int(min(max(_RUNS_US / max(first, 1.0), 1), _MAX_RUNS))
    return statistics.median([first, *(once() for _ in range(runs - 1))])
