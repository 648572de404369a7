"""Drafts, and repairs of what failed, a bounded number of rounds each.

Knows nothing of prompts or feedback texts: a repair names its one parent, the prompt is the controller's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from sandbox.types import Observation, Operator, Proposal, Status
from strategies.base import OpenProposals

# The model cannot mend what the judge was unable to check.
BEYOND_REPAIR = frozenset({Status.PASSED, Status.UNVERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One draft and its repairs so far, as candidate ids in the order in which they failed."""

    candidate_ids: tuple[str, ...]

    @property
    def num_repairs(self) -> int:
        return len(self.candidate_ids)


class Repair:
    """Repairs a failed candidate from its own feedback, else drafts anew. Makes no random choice.

    A chain ends when it passes, after `max_repairs` rounds, or when it is dry: the answer was cut off, held no code,
    repeats an earlier program of the chain, or has a status that the model cannot change. Repairs go before new drafts.
    Options: `in_flight`, the most proposals open at a time; `max_repairs`, rounds a chain; `stop_when_passed`, end the
    search at the first pass.
    """

    def __init__(self, *, seed: int, in_flight: int, max_repairs: int, stop_when_passed: bool) -> None:
        if max_repairs < 0:
            raise ValueError(f"max_repairs must not be negative, not {max_repairs}")
        self._open = OpenProposals(limit=in_flight)
        self._max_repairs = max_repairs
        self._stop_when_passed = stop_when_passed
        self._stopped = False
        self._drafts_dry = False
        self._to_repair: deque[Chain] = deque()
        self._chains: dict[str, Chain] = {}  # by id of the open proposal that extends the chain

    def ask(self) -> Proposal | None:
        if self.finished or self._open.full:
            return None
        if self._to_repair:
            chain = self._to_repair.popleft()
            proposal = self._open.make(Operator.REPAIR, parents=(chain.candidate_ids[-1],))
        elif not self._drafts_dry:
            chain = Chain(candidate_ids=())
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
        elif self._repairable(observation, chain=chain):
            self._to_repair.append(Chain(candidate_ids=(*chain.candidate_ids, observation.candidate.id)))

    @property
    def finished(self) -> bool:
        dry = self._drafts_dry and not self._to_repair and not self._open
        return self._stopped or dry

    def _repairable(self, observation: Observation, *, chain: Chain) -> bool:
        candidate = observation.candidate
        return (
            chain.num_repairs < self._max_repairs
            and observation.verdict.status not in BEYOND_REPAIR
            and not candidate.truncated
            and bool(candidate.source)
            and candidate.id not in chain.candidate_ids
        )
