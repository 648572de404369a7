"""What kind of program a passing candidate is, as far as its observation tells: the cells of an archive.

Knows nothing of how good it is: two candidates of one behaviour compete, those of different behaviours do not
(MAP-Elites, Mouret and Clune 2015, arXiv:1504.04909).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sandbox.types import Observation, Verdict

# The first that a source holds names its style; what stands first shapes a kernel most.
STYLES = (
    ("dot", "tl.dot"),
    ("atomic", "tl.atomic_"),
    ("scan", "tl.associative_scan"),
    ("reduce", "tl.reduce"),
    ("sum", "tl.sum"),
    ("max", "tl.max"),
)
PLAIN_STYLE = "plain"
MAX_LAUNCHES = 4  # this many and more are one cell
MAX_TRAFFIC = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """`launches` is how many kernel launches, at most MAX_LAUNCHES. `traffic` is how many doublings its time lies above
    the time to move every byte once, at most MAX_TRAFFIC, None where neither was measured. `style` is one of STYLES or
    plain, `mixed` whether PyTorch computes too."""

    launches: int
    traffic: int | None
    style: str
    mixed: bool


def behaviour_of(observation: Observation) -> Behaviour:
    source, verdict = observation.candidate.source, observation.verdict
    return Behaviour(
        launches=min(sum(kernel.launches for kernel in verdict.kernels), MAX_LAUNCHES),
        traffic=_traffic(verdict),
        style=next((name for name, mark in STYLES if mark in source), PLAIN_STYLE),
        mixed="mixed" in verdict.labels,
    )


def _traffic(verdict: Verdict) -> int | None:
    performance = verdict.performance
    if performance is None or not performance.floor_us:
        return None
    times_floor = max(performance.runtime_us / performance.floor_us, 1.0)
    return min(int(math.log2(times_floor)), MAX_TRAFFIC)
