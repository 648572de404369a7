"""Independent drafts until the budget ends.

Knows nothing of failures beyond counting them as told and, where asked to, having rules mend them; n is the budget's
number of samples.
"""

from __future__ import annotations

from collections import deque

from sandbox.types import Observation, Operator, Proposal
from strategies.base import OpenProposals
from strategies.repair import MAX_FIXES, mendable


class BestOfN:
    """Drafts, and drafts again. Makes no random choice: `seed` is taken because every strategy takes one.

    Options: `in_flight`, the most proposals open at a time; `stop_when_passed`, end the search at the first pass;
    `fix`, have rules mend what they can before the next draft. Without it the answers are those of the model alone, as
    pass@k wants them.
    """

    def __init__(self, *, seed: int, in_flight: int, stop_when_passed: bool, fix: bool) -> None:
        self._open = OpenProposals(limit=in_flight)
        self._stop_when_passed = stop_when_passed
        self._fix = fix
        self._to_fix: deque[tuple[str, ...]] = deque()  # chains: a draft and its fixes, as candidate ids
        self._chains: dict[str, tuple[str, ...]] = {}  # by id of the open proposal that extends the chain
        self._drafts_dry = self._stopped = False

    def ask(self) -> Proposal | None:
        if self.finished or self._open.full:
            return None
        if self._to_fix:
            chain = self._to_fix.popleft()
            proposal = self._open.make(Operator.FIX, parents=chain[-1:])
        elif not self._drafts_dry:
            chain = ()
            proposal = self._open.make(Operator.DRAFT, parents=())
        else:
            return None
        self._chains[proposal.id] = chain
        return proposal

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        self._open.close(proposal)
        chain = self._chains.pop(proposal.id)
        if observation is None:
            self._drafts_dry |= proposal.operator is Operator.DRAFT
        elif observation.verdict.passed:
            self._stopped |= self._stop_when_passed
        elif self._fixable(observation, chain=chain):
            self._to_fix.append((*chain, observation.candidate.id))

    def end_drafts(self) -> None:
        """No draft can be sampled any more; for whoever asks on behalf of several strategies and was told so."""
        self._drafts_dry = True

    def _fixable(self, observation: Observation, *, chain: tuple[str, ...]) -> bool:
        fixable = self._fix and observation.verdict.fixable and mendable(observation)
        return fixable and len(chain) < MAX_FIXES and observation.candidate.id not in chain

    @property
    def fixes_next(self) -> bool:
        return bool(self._to_fix) and not self._stopped

    @property
    def finished(self) -> bool:
        dry = self._drafts_dry and not (self._fix and (self._to_fix or self._open))
        return self._stopped or dry
