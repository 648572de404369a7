"""Which candidate to tune next: the fastest so far, a bounded number of points each.

Knows nothing of launch parameters: what a point is, is the controller's.
"""

from __future__ import annotations

from collections import Counter

from sandbox.types import Observation, Operator, Proposal


class Tuning:
    """`points` TUNE proposals for each candidate that a model or a rule wrote, and that is the fastest of those so far.

    What was not timed is not tuned. At most half of what may be in flight is tuning, so that the model has work
    meanwhile. A tuned text is not tuned again, but stands in for its origin where that is taken further.
    """

    def __init__(self, *, points: int, in_flight: int) -> None:
        if points < 0:
            raise ValueError(f"tune must not be negative, not {points}")
        self._points = points
        self._most_open = max(1, in_flight // 2)
        self._open: dict[str, str] = {}  # the origin's id, by that of the open proposal
        self._num_asked: Counter[str] = Counter()  # by the origin's id
        self._dry: set[str] = set()
        self._origin: tuple[float, str] | None = None  # the fastest that no TUNE made: speedup, id
        self._fastest: dict[str, tuple[float, str]] = {}  # of an origin and what was tuned from it, by the origin's id

    @property
    def next_origin(self) -> str | None:
        """The candidate to tune next; None if there is nothing to tune now."""
        if self._origin is None or len(self._open) >= self._most_open:
            return None
        origin = self._origin[1]
        return origin if self._num_asked[origin] < self._points and origin not in self._dry else None

    def standing_in(self, candidate_id: str) -> str:
        """The fastest text that was tuned from a candidate, or the candidate itself."""
        found = self._fastest.get(candidate_id)
        return candidate_id if found is None else found[1]

    def note(self, observation: Observation) -> None:
        """A result that no TUNE gave."""
        candidate, verdict = observation.candidate, observation.verdict
        if self._points == 0 or not verdict.timed or candidate.operator is Operator.TUNE:
            return
        self._fastest.setdefault(candidate.id, (verdict.speedup, candidate.id))
        if self._origin is None or verdict.speedup > self._origin[0]:
            self._origin = (verdict.speedup, candidate.id)

    def opened(self, proposal: Proposal) -> None:
        self._open[proposal.id] = proposal.parents[0]
        self._num_asked[proposal.parents[0]] += 1

    def told(self, proposal: Proposal, observation: Observation | None) -> None:
        """How an open TUNE ended; None where its origin has no further point."""
        origin = self._open.pop(proposal.id)
        if observation is None:
            self._dry.add(origin)
        elif observation.verdict.timed and observation.verdict.speedup > self._fastest[origin][0]:
            self._fastest[origin] = (observation.verdict.speedup, observation.candidate.id)
