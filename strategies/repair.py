"""Drafts, and repairs of what failed, a bounded number of rounds each.

Knows nothing of prompts, feedback texts or rules: a repair or a fix names its one parent, the rest is the controller's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from sandbox.types import Observation, Operator, Proposal, Status
from strategies.base import OpenProposals
from strategies.tuning import Tuning

# The model cannot mend what the judge was unable to check.
BEYOND_REPAIR = frozenset({Status.PASSED, Status.UNVERIFIED})
# Of one answer of the model's. Mending one fault shows the next: sizes, then counts.
MAX_FIXES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One draft and what became of it so far: candidate ids in the order in which they failed, how many repairs by the
    model, and how many fixes by rules since the model's last answer."""

    candidate_ids: tuple[str, ...] = ()
    num_repairs: int = 0
    num_fixes: int = 0


class Repair:
    """Mends a failed candidate, else drafts anew. Makes no random choice.

    With `fix`, rules are tried before the model wherever they can mend something; a fix that fails is fixed again or
    repaired in its turn. A chain ends when it passes, after `max_repairs` repairs, or when it is dry: the answer was
    cut off, held no code, repeats an earlier program of the chain, or has a status that the model cannot change. A fix
    that gives a program of the chain again ends nothing: the model repairs what was to be fixed. Fixes go before
    tuning, tuning before repairs, repairs before drafts.
    Options: `in_flight`, the most proposals open at a time; `max_repairs`, rounds a chain; `stop_when_passed`, end the
    search at the first pass; `fix`, see above; `tune`, points for the fastest.
    """

    def __init__(
        self, *, seed: int, in_flight: int, max_repairs: int, stop_when_passed: bool, fix: bool, tune: int
    ) -> None:
        if max_repairs < 0:
            raise ValueError(f"max_repairs must not be negative, not {max_repairs}")
        self._open = OpenProposals(limit=in_flight)
        self._max_repairs = max_repairs
        self._stop_when_passed = stop_when_passed
        self._fix = fix
        self._tuning = Tuning(points=tune, in_flight=in_flight)
        self._stopped = False
        self._drafts_dry = False
        self._to_fix: deque[Chain] = deque()
        self._to_repair: deque[Chain] = deque()
        self._chains: dict[str, Chain] = {}  # by id of the open proposal that extends the chain

    def ask(self) -> Proposal | None:
        if self.finished or self._open.full:
            return None
        if self._to_fix:
            chain = self._to_fix.popleft()
            proposal = self._open.make(Operator.FIX, parents=(chain.candidate_ids[-1],))
        elif (origin := self._tuning.next_origin) is not None:
            proposal = self._open.make(Operator.TUNE, parents=(origin,))
            self._tuning.opened(proposal)
            return proposal
        elif self._to_repair:
            chain = self._to_repair.popleft()
            proposal = self._open.make(Operator.REPAIR, parents=(chain.candidate_ids[-1],))
        elif not self._drafts_dry:
            chain = Chain()
            proposal = self._open.make(Operator.DRAFT, parents=())
        else:
            return None
        self._chains[proposal.id] = chain
        return proposal

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        self._open.close(proposal)
        if proposal.operator is Operator.TUNE:
            self._tuning.told(proposal, observation)
            return
        if observation is not None:
            self._tuning.note(observation)
        chain = self._chains.pop(proposal.id)
        if observation is None:
            self._drafts_dry |= proposal.operator is Operator.DRAFT
        elif observation.verdict.passed:
            self._stopped |= self._stop_when_passed
        elif observation.candidate.id not in chain.candidate_ids:
            if mendable(observation):
                self._go_on(_extended(chain, proposal, observation), observation=observation)
        elif proposal.operator is Operator.FIX:
            self._to_repair_by_model(chain)

    def end_drafts(self) -> None:
        """No draft can be sampled any more; for whoever asks on behalf of several strategies and was told so."""
        self._drafts_dry = True

    def _go_on(self, chain: Chain, *, observation: Observation) -> None:
        if self._fix and observation.verdict.fixable and chain.num_fixes < MAX_FIXES:
            self._to_fix.append(chain)
        else:
            self._to_repair_by_model(chain)

    def _to_repair_by_model(self, chain: Chain) -> None:
        if chain.num_repairs < self._max_repairs:
            self._to_repair.append(chain)

    @property
    def fixes_next(self) -> bool:
        return bool(self._to_fix) and not self._stopped

    @property
    def tunes_next(self) -> bool:
        idle = not self._stopped and not self._open.full and not self._to_fix
        return idle and self._tuning.next_origin is not None

    @property
    def finished(self) -> bool:
        waiting = self._to_fix or self._to_repair or self._open or self.tunes_next
        return self._stopped or (self._drafts_dry and not waiting)


def mendable(observation: Observation) -> bool:
    """Whether somebody can make something of a failed candidate: it is whole, and its failure is its own."""
    candidate = observation.candidate
    return observation.verdict.status not in BEYOND_REPAIR and not candidate.truncated and bool(candidate.source)


def _extended(chain: Chain, proposal: Proposal, observation: Observation) -> Chain:
    by_rules, by_model = proposal.operator is Operator.FIX, proposal.operator is Operator.REPAIR
    return replace(
        chain,
        candidate_ids=(*chain.candidate_ids, observation.candidate.id),
        num_repairs=chain.num_repairs + by_model,
        num_fixes=chain.num_fixes + 1 if by_rules else 0,
    )
