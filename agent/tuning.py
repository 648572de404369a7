"""Carries out TUNE, which asks no model: a passing candidate with other launch parameters written into its text.

Knows nothing of samplers, and not how a point is chosen. Each point is a candidate, judged like any other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.events import Attempt, Sampled, Transcript, Unsampled
from agent.tuning_points import Told
from sandbox.knobs import Point, Space
from sandbox.launch_knobs import find_space
from sandbox.types import Candidate, Observation, Proposal, Verdict

NO_KNOBS = "nothing about its launches can be set otherwise"
NO_POINT = "no further point of its launch parameters was found"


class ChoosePoint(Protocol):
    """`agent.tuning_points.choose_point`, or a script in its place."""

    def __call__(self, space: Space, *, told: Sequence[Told], taken: Collection[str], seed: int) -> Point | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A text that was tuned from the same parent before; without a verdict while it is being judged."""

    source: str
    verdict: Verdict | None


class Tuner:
    """Gives each TUNE proposal a point of its own. What it gave out counts as tried before the ledger holds it."""

    def __init__(self, choose: ChoosePoint) -> None:
        self._choose = choose
        self._given: dict[str, set[str]] = {}  # texts, by the parent's id

    def tuned(
        self, proposal: Proposal, *, parent: Observation, tried: Sequence[Tried], attempt: Attempt, seed: int
    ) -> Sampled | Unsampled:
        """The event of a tuned candidate: recorded like an answer, with nothing sent and no tokens, and with the point
        as what was answered. `tried` is in the order of the ledger."""
        problem_id, source = parent.candidate.problem_id, parent.candidate.source
        space = find_space(source)
        if space is None:
            return Unsampled(problem_id=problem_id, proposal=proposal, attempt=attempt, reason=NO_KNOBS)
        given = self._given.setdefault(parent.candidate.id, set())
        taken = {source, *given, *(item.source for item in tried)}
        point = self._choose(space, told=_told(space, parent=parent, tried=tried), taken=taken, seed=seed)
        if point is None:
            return Unsampled(problem_id=problem_id, proposal=proposal, attempt=attempt, reason=NO_POINT)
        given.add(space.at(point))
        return Sampled(
            problem_id=problem_id,
            proposal=proposal,
            candidate=Candidate(
                problem_id=problem_id,
                source=space.at(point),
                operator=proposal.operator,
                parent_ids=proposal.parents,
            ),
            attempt=attempt,
            seed=seed,
            finish_reason=None,
            prompt_tokens=0,
            completion_tokens=0,
            tokens_estimated=False,
            transcript=Transcript(prompt="", completion=json.dumps(dict(point))),
        )


def _told(space: Space, *, parent: Observation, tried: Sequence[Tried]) -> list[Told]:
    """What is known of the space: the parent's own point first, where it can be told."""
    known = [] if space.current is None else [Told(point=space.current, speedup=parent.verdict.speedup)]
    for item in tried:
        point = space.point_of(item.source)
        if point is not None and item.verdict is not None:
            known.append(Told(point=point, speedup=item.verdict.speedup if item.verdict.timed else None))
    return known
