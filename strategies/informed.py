"""What strategies share that choose by what they were told: mending by rule, what a candidate allows next, ends.

Knows nothing of how a strategy chooses: that is `_choose`, `_opened` and `_learn` of each.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.types import Observation, Operator, Proposal, Status
from strategies.base import OpenProposals
from strategies.repair import MAX_FIXES, mendable
from strategies.reward import reward
from strategies.tuning import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to propose next."""

    operator: Operator
    parents: tuple[str, ...] = ()


DRAFT = Choice(operator=Operator.DRAFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A program that was told: what it came to, and the operator that can take it further, if any."""

    number: int  # in the order of telling
    candidate_id: str
    operator: Operator
    status: Status
    reward: float
    next_operator: Operator | None

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED

    @property
    def next_choice(self) -> Choice | None:
        if self.next_operator is None:
            return None
        return Choice(operator=self.next_operator, parents=(self.candidate_id,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """A failed candidate under the rules: what asked for it, and how many rounds it has had."""

    asked: Proposal
    unmended: Observation
    num_rounds: int


def next_operator(observation: Observation) -> Operator | None:
    """Repairs for what failed and can be mended, improvements for what was timed; None for what leads nowhere.

    A pass that was not timed has no figure to improve on. An answer that was cut off, or that held no code, is no
    base for a repair.
    """
    verdict = observation.verdict
    if verdict.passed:
        return Operator.IMPROVE if verdict.timed else None
    return Operator.REPAIR if mendable(observation) else None


class Informed(ABC):
    """`ask` and `tell` around a subclass's choice. Draws random numbers only when something is proposed.

    A candidate that rules can mend (`verdict.fixable`) is mended before the subclass hears of it; it is told the mended
    one as if that had been the answer, or the broken one where the rules fail. The fastest timed pass is tuned, `tune`
    points long; the subclass does not hear of that, but what it takes further is then the tuned text.
    """

    def __init__(self, *, seed: int, in_flight: int, stop_when_passed: bool, fix: bool, tune: int) -> None:
        self._rng = random.Random(seed)
        self._open = OpenProposals(limit=in_flight)
        self._stop_when_passed = stop_when_passed
        self._fix = fix
        self._tuning = Tuning(points=tune, in_flight=in_flight)
        self._stopped = False
        self._drafts_dry = False
        self._barren: set[Choice] = set()  # those that could not be sampled
        self._choices: dict[str, Choice] = {}  # by id of the open proposal
        self._num_open_from: Counter[str] = Counter()  # by candidate id of the choice's first parent
        self._tried: dict[str, Tried] = {}  # by candidate id
        self._to_mend: list[Mending] = []
        self._mending: dict[str, Mending] = {}  # by id of the open proposal

    def ask(self) -> Proposal | None:
        if self._stopped or self._open.full:
            return None
        if self._to_mend:
            mending = self._to_mend.pop(0)
            proposal = self._open.make(Operator.FIX, parents=(mending.unmended.candidate.id,))
            self._mending[proposal.id] = mending
            return proposal
        if self.tunes_next and (origin := self._tuning.next_origin) is not None:
            proposal = self._open.make(Operator.TUNE, parents=(origin,))
            self._tuning.opened(proposal)
            return proposal
        return self._propose()

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        self._open.close(proposal)
        if proposal.operator is Operator.TUNE:
            self._tuning.told(proposal, observation)
            self._stopped |= self._stop_when_passed and observation is not None and observation.verdict.passed
            return
        mending = self._mending.pop(proposal.id, None)
        if mending is not None:
            self._take_in_mended(mending, observation)
            return
        if observation is None:
            self._bar(self._choices[proposal.id])
            if proposal.operator is Operator.DRAFT:
                self.end_drafts()
        self._take_in(proposal, observation, num_rounds=0)

    def _take_in_mended(self, mending: Mending, observation: Observation | None) -> None:
        """Where the rules gave nothing, or a program that was there before, the failure is learnt as it was."""
        unmended = mending.unmended.candidate.id
        if observation is None or observation.candidate.id == unmended or observation.candidate.id in self._tried:
            self._settle(mending.asked, mending.unmended)
        else:
            self._take_in(mending.asked, observation, num_rounds=mending.num_rounds)

    def _take_in(self, asked: Proposal, observation: Observation | None, *, num_rounds: int) -> None:
        if observation is not None:
            self._tuning.note(observation)
            self._stopped |= self._stop_when_passed and observation.verdict.passed
            if self._worth_mending(observation, num_rounds=num_rounds):
                self._to_mend.append(Mending(asked=asked, unmended=observation, num_rounds=num_rounds + 1))
                return
        self._settle(asked, observation)

    @property
    def fixes_next(self) -> bool:
        """The next `ask` proposes a fix, which takes no sample."""
        return bool(self._to_mend) and not self._stopped

    @property
    def tunes_next(self) -> bool:
        """The next `ask` proposes TUNE, which takes no sample."""
        idle = not self._stopped and not self._open.full and not self._to_mend
        return idle and self._tuning.next_origin is not None

    def end_drafts(self) -> None:
        """No draft can be sampled any more; for whoever asks on behalf of several strategies and was told so."""
        self._drafts_dry = True
        self._bar(DRAFT)

    def _bar(self, choice: Choice) -> None:
        """It cannot be sampled any more. For subclasses that keep count of what can; may be told twice."""
        self._barren.add(choice)

    @property
    def finished(self) -> bool:
        if self._stopped:
            return True
        if not self._drafts_dry or self._open or self._to_mend or self.tunes_next:
            return False
        return not self._could_go_on()

    def _propose(self) -> Proposal | None:
        state = self._rng.getstate()
        choice = self._choose()
        if choice is None:
            self._rng.setstate(state)
            return None
        proposal = self._open_choice(choice)
        self._opened(proposal)
        return proposal

    def _open_choice(self, choice: Choice) -> Proposal:
        """With what was tuned from its parents in their stead."""
        self._num_open_from.update(choice.parents[:1])
        parents = tuple(self._tuning.standing_in(parent) for parent in choice.parents)
        proposal = self._open.make(choice.operator, parents=parents)
        self._choices[proposal.id] = choice
        return proposal

    def _settle(self, proposal: Proposal, observation: Observation | None) -> None:
        for parent in self._choices.pop(proposal.id).parents[:1]:
            self._num_open_from[parent] -= 1
            if not self._num_open_from[parent]:
                del self._num_open_from[parent]
        self._learn(proposal, observation)

    def _could_go_on(self) -> bool:
        state = self._rng.getstate()
        choice = self._choose()
        self._rng.setstate(state)
        return choice is not None

    @abstractmethod
    def _choose(self) -> Choice | None:
        """What to propose next, or None for nothing now. Changes `self._rng`, and nothing that lasts."""

    @abstractmethod
    def _opened(self, proposal: Proposal) -> None:
        """`_choose`'s last choice is open."""

    @abstractmethod
    def _learn(self, proposal: Proposal, observation: Observation | None) -> None:
        """How a choice ended, by itself or mended; None if it could not be sampled."""

    def _note(self, observation: Observation) -> Tried | None:
        """A record of a program that was not told before; None of one that was."""
        candidate, verdict = observation.candidate, observation.verdict
        if candidate.id in self._tried:
            return None
        tried = Tried(
            number=len(self._tried),
            candidate_id=candidate.id,
            operator=candidate.operator,
            status=verdict.status,
            reward=reward(verdict),
            next_operator=next_operator(observation),
        )
        self._tried[tried.candidate_id] = tried
        return tried

    def _next_choice(self, tried: Tried) -> Choice | None:
        """What takes `tried` further and can be sampled."""
        choice = tried.next_choice
        return None if choice in self._barren else choice

    def _draft_choice(self) -> Choice | None:
        return None if self._drafts_dry else DRAFT

    def _drawn_by_rank(self, ranked: Sequence[Tried]) -> Tried:
        """One of `ranked`, best first, with weight 1 / (1 + rank + what is open from it)."""
        weights = [1 / (1 + rank + self._num_open_from[tried.candidate_id]) for rank, tried in enumerate(ranked)]
        return self._rng.choices(ranked, weights)[0]

    def _merge_drawn(self, passes: Sequence[Tried]) -> Choice | None:
        """Two of `passes`, which are ranked, the better first."""
        if len(passes) < 2:
            return None
        first, second = sorted(self._rng.sample(range(len(passes)), 2))
        merge = Choice(operator=Operator.MERGE, parents=(passes[first].candidate_id, passes[second].candidate_id))
        return None if merge in self._barren else merge

    def _worth_mending(self, observation: Observation, *, num_rounds: int) -> bool:
        wanted = self._fix and num_rounds < MAX_FIXES and observation.verdict.fixable
        return wanted and mendable(observation) and observation.candidate.id not in self._tried
