"""Which of the searches that may propose has the next turn.

Pure: a choice is a function of where the searches stand, so a resumed run, which finds them where they stood, chooses
as the first would have. Knows nothing of proposals, budgets or slots; those are asked and counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox.types import Verdict

# Of a kernel at the memory's own speed: little is left, but its search still gets a turn now and then.
MIN_HEADROOM = 0.05


class Standpoint(Protocol):
    """What of a search is looked at."""

    @property
    def num_proposed(self) -> int: ...

    @property
    def best(self) -> Verdict | None: ...


class Allocator(Protocol):
    def choose(self, ready: Mapping[str, Standpoint]) -> str:
        """The id of one of `ready`, which is not empty and is in the order of turns."""
        ...


class Uniform:
    """Turns in order: every search gets as many as the next."""

    def choose(self, ready: Mapping[str, Standpoint]) -> str:
        return next(iter(ready))


@dataclass(frozen=True, slots=True)
class ExpectedGain:
    """Unsolved problems before solved ones; among equals, turns in proportion to what may be gained.

    That is the weight of an unsolved problem, and weight times headroom of a solved one: the share of the best
    kernel's time above the least that moving its bytes takes, 1 where that is not known. `weights` are by problem id, 1
    for those left out: a model zoo's share of time in an operator, say.
    """

    weights: Mapping[str, float]

    def choose(self, ready: Mapping[str, Standpoint]) -> str:
        return min(ready, key=lambda problem_id: self._order(problem_id, ready[problem_id]))

    def _order(self, problem_id: str, search: Standpoint) -> tuple[bool, float, str]:
        """Proportional turns: whose next turn, divided by its gain, comes first."""
        best = search.best
        gain = self.weights.get(problem_id, 1.0) * (1.0 if best is None else headroom(best))
        return (best is not None, (search.num_proposed + 1) / gain, problem_id)


def headroom(best: Verdict) -> float:
    """In [MIN_HEADROOM, 1]."""
    if best.performance is None or best.performance.floor_us is None:
        return 1.0
    return max(1.0 - best.performance.floor_us / best.performance.runtime_us, MIN_HEADROOM)
