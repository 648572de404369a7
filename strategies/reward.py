"""How far a candidate came, as one number that strategies rank and average by.

Knows nothing of budgets or of what a strategy does with it. The number is never reported: results are statuses and
measured speedups.
"""

from __future__ import annotations

from sandbox.types import Status, Verdict

# In the order in which judging finds them: later is closer to passing.
STAGES: tuple[frozenset[Status], ...] = (
    frozenset({Status.NO_KERNEL}),
    frozenset({Status.REJECTED}),
    frozenset({Status.TRACE_ERROR, Status.UNTRACEABLE}),
    frozenset({Status.COMPILE_ERROR}),
    frozenset({Status.LAUNCH_ERROR, Status.ILLEGAL_ACCESS, Status.TIMEOUT, Status.OUT_OF_MEMORY}),
    frozenset({Status.WRONG_SHAPE, Status.WRONG_DTYPE}),
    frozenset({Status.WRONG_VALUES, Status.UNVERIFIED}),
)
_STAGE_OF = {status: number for number, stage in enumerate(STAGES) for status in stage}
PASSED_REWARD = 0.5


def reward(verdict: Verdict) -> float:
    """In [0, 1): below one half for failures, by stage; from one half on for passes, by speedup.

    A speedup s adds s / (1 + s) / 2, so 1x gives 0.75 and 3x gives 0.875: bounded, and doubling always counts.
    """
    if not verdict.passed:
        return PASSED_REWARD * _STAGE_OF[verdict.status] / len(STAGES)
    return PASSED_REWARD + 0.5 * verdict.speedup / (1.0 + verdict.speedup)
