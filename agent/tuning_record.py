"""What tuning came to in a run, candidate by candidate: how many points, and what the best of them gained.

Decides nothing and knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.events import DurableEvent, Judged, Sampled
from sandbox.launch_knobs import find_space
from sandbox.types import Candidate, Operator, Verdict


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


def tuning_results(events: Iterable[DurableEvent]) -> tuple[TuningResult, ...]:
    """In the order in which the candidates were first tuned. Points that have no verdict yet are left out."""
    candidates: dict[str, Candidate] = {}
    verdicts: dict[str, Verdict] = {}
    points: dict[str, list[Candidate]] = {}  # by the origin's id
    for event in events:
        match event:
            case Sampled(proposal=proposal, candidate=candidate):
                candidates.setdefault(candidate.id, candidate)
                if proposal.operator is Operator.TUNE:
                    points.setdefault(proposal.parents[0], []).append(candidate)
            case Judged(verdict=verdict):
                verdicts[verdict.candidate_id] = verdict
    judged = {origin: [c for c in tuned if c.id in verdicts] for origin, tuned in points.items()}
    return tuple(
        _result(candidates[origin], tuned=tuned, verdicts=verdicts) for origin, tuned in judged.items() if tuned
    )


def _result(origin: Candidate, *, tuned: list[Candidate], verdicts: dict[str, Verdict]) -> TuningResult:
    timed = [candidate for candidate in tuned if verdicts[candidate.id].timed]
    best = max(timed, key=lambda candidate: verdicts[candidate.id].speedup, default=None)
    return TuningResult(
        problem_id=origin.problem_id,
        origin_id=origin.id,
        num_points=len(tuned),
        num_passed=sum(verdicts[candidate.id].passed for candidate in tuned),
        origin_speedup=verdicts[origin.id].speedup,
        best_id=None if best is None else best.id,
        best_speedup=None if best is None else verdicts[best.id].speedup,
        changes=() if best is None else _changes(origin.source, tuned=best.source),
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
