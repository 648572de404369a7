"""Which configurations of autotuned launches are interpreted: another one for each case.

Without a GPU none can be chosen by its time, and any may be what a GPU chooses, so one that is wrong is looked for.
Arithmetic on a validated plan.
"""

from __future__ import annotations

import math

from sandbox.plan import ChoiceStep, LaunchStep, Plan

# A configuration of many small programs takes that much longer than the first, which the size limit was held to.
_MOST_PROGRAMS = 4


def alternatives_for(plan: Plan, position: int) -> tuple[int, ...]:
    """The alternative of each choice, in order, for case number `position`: the first for the first case."""
    return tuple(_alternative(step, position) for step in plan.steps if isinstance(step, ChoiceStep))


def alternative_names(plan: Plan, position: int) -> str:
    """The names of those that are not the first of their choice."""
    steps = [step for step in plan.steps if isinstance(step, ChoiceStep)]
    chosen = zip(steps, alternatives_for(plan, position), strict=True)
    return "; ".join(step.names[at] for step, at in chosen if at)


def _alternative(step: ChoiceStep, position: int) -> int:
    at = position % len(step.alternatives)
    return at if _programs(step, at) <= _MOST_PROGRAMS * _programs(step, 0) else 0


def _programs(step: ChoiceStep, at: int) -> int:
    return sum(math.prod(inner.grid) for inner in step.alternatives[at] if isinstance(inner, LaunchStep))
