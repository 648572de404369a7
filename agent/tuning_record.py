"""What tuning came to in a run, candidate by candidate: how many points, and what the best of them gained.

Decides nothing and knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.events import DurableEvent, Judged, Sampled
from agent.ledger import Ledger
from sandbox.launch_knobs import find_space
from sandbox.types import Observation, Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """One candidate that was tuned. `best_speedup` is that of the fastest point, None where none was timed; `changes`
    says which numbers that one has otherwise, by the names of the knobs."""

    problem_id: str
    origin_id: str
    num_points: int
    num_passed: int
    origin_speedup: float
    best_id: str | None
    best_speedup: float | None
    changes: tuple[str, ...]

    @property
    def gain(self) -> float | None:
        """The fastest point's speedup over its origin's; below 1 where all were slower."""
        return None if self.best_speedup is None else self.best_speedup / self.origin_speedup


class PointTally:
    """Gathers which points were tried of which candidate, event by event. Holds ids alone: a run's texts are many."""

    def __init__(self) -> None:
        self._points: dict[str, list[str]] = {}  # by the origin's id, in the order in which they were made
        self._judged: set[str] = set()

    def add(self, event: DurableEvent) -> None:
        match event:
            case Sampled(proposal=proposal, candidate=candidate) if proposal.operator is Operator.TUNE:
                self._points.setdefault(proposal.parents[0], []).append(candidate.id)
            case Judged(verdict=verdict):
                self._judged.add(verdict.candidate_id)

    def results(self, ledger: Ledger) -> tuple[TuningResult, ...]:
        """In the order in which the candidates were first tuned. Points that have no verdict yet are left out."""
        judged = {
            origin: [ledger.observation(point) for point in points if point in self._judged]
            for origin, points in self._points.items()
        }
        return tuple(_result(ledger.observation(origin), tuned=tuned) for origin, tuned in judged.items() if tuned)


def _result(origin: Observation, *, tuned: Sequence[Observation]) -> TuningResult:
    timed = [point for point in tuned if point.verdict.timed]
    best = max(timed, key=lambda point: point.verdict.speedup, default=None)
    return TuningResult(
        problem_id=origin.candidate.problem_id,
        origin_id=origin.candidate.id,
        num_points=len(tuned),
        num_passed=sum(point.verdict.passed for point in tuned),
        origin_speedup=origin.verdict.speedup,
        best_id=None if best is None else best.candidate.id,
        best_speedup=None if best is None else best.verdict.speedup,
        changes=() if best is None else _changes(origin.candidate.source, tuned=best.candidate.source),
    )


def _changes(source: str, *, tuned: str) -> tuple[str, ...]:
    space = find_space(source)
    point = None if space is None else space.point_of(tuned)
    if space is None or point is None:
        return ()
    return tuple(
        f"{knob.name} {point[knob.name]}" if knob.value is None else f"{knob.name} {knob.value} to {point[knob.name]}"
        for knob in space.knobs
        if point[knob.name] != knob.value
    )
