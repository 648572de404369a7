"""Independent drafts until the budget ends.

Knows nothing of failures beyond counting them as told; n is the budget's number of samples.
"""

from __future__ import annotations

from sandbox.types import Observation, Operator, Proposal
from strategies.base import OpenProposals


class BestOfN:
    """Drafts, and drafts again. Makes no random choice: `seed` is taken because every strategy takes one.

    Options: `in_flight`, the most proposals open at a time; `stop_when_passed`, end the search at the first pass.
    """

    def __init__(self, *, seed: int, in_flight: int, stop_when_passed: bool) -> None:
        self._open = OpenProposals(limit=in_flight)
        self._stop_when_passed = stop_when_passed
        self._finished = False

    def ask(self) -> Proposal | None:
        if self._finished or self._open.full:
            return None
        return self._open.make(Operator.DRAFT, parents=())

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        self._open.close(proposal)
        if observation is None or (self._stop_when_passed and observation.verdict.passed):
            self._finished = True

    @property
    def finished(self) -> bool:
        return self._finished
