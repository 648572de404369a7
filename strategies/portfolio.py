"""A bandit over operators and whole strategies: what has helped in a situation like this one, at what cost.

Knows nothing of prompts or judges. Thompson sampling over success per cost; the situation is the class of failure that
the best program so far is stuck at.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.types import Observation, Operator, Proposal, Status
from strategies.ab_mcts import AbMcts
from strategies.base import Strategy
from strategies.beam import Beam
from strategies.best_of_n import BestOfN
from strategies.evolve import Evolve
from strategies.informed import Choice, Informed, Tried
from strategies.operator_costs import OperatorCosts
from strategies.ranking import Ranking
from strategies.repair import Repair


class Member(Strategy, Protocol):
    """A strategy that another asks for proposals."""

    def end_drafts(self) -> None:
        """No draft can be sampled any more."""
        ...


MEMBERS: Mapping[str, type[Member]] = {
    "best_of_n": BestOfN, "repair": Repair, "beam": Beam, "evolve": Evolve, "ab_mcts": AbMcts,
}  # fmt: skip
OPERATORS = (Operator.DRAFT, Operator.REPAIR, Operator.IMPROVE, Operator.MERGE)
MIN_COST = 1e-3  # of an arm, in drafts; nothing is so cheap that its success would not count


@dataclass(slots=True)
class Arm:
    """What came of one arm in one situation, and what was asked for."""

    num_successes: int = 0
    num_failures: int = 0
    num_open: int = 0
    asked: Counter[Operator] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """An open proposal's arm, the reward that counts as success when exceeded, and the member's own proposal if any."""

    arm: Arm
    to_beat: float
    member: Member | None
    asked: Proposal | None


class Portfolio(Informed):
    """Draws a success rate for each arm that can propose, divides it by the arm's mean cost, and pulls the best.

    Costs are in drafts, of what the arm asked for: the tokens that its operators' answers took on this problem, with
    what was stated beside them (`OperatorCosts`).

    The situation is the status of the best program so far, passes by their speedup; each has arms of its own. A pull
    succeeds when its program beats what was the best when it was asked for. What is open counts as failed, so that
    work in flight spreads over the arms. Arms are operators, which share all programs (repairs of the failure with the
    fewest repairs, the most advanced first; improvements and merges drawn by rank), and members: whole strategies with
    their own programs.
    Options: `in_flight`, the most proposals open at a time; `costs`, of the operators in drafts, as stated; those that
    have one are arms; `members`, a `name` and the options of its constructor each; `stop_when_passed`, end the search
    at the first pass; `fix`, mend by rule first, for members too; `tune`, points for the fastest.
    """

    def __init__(
        self,
        *,
        seed: int,
        in_flight: int,
        costs: Mapping[str, float],
        members: Sequence[Mapping[str, Any]],
        stop_when_passed: bool,
        fix: bool,
        tune: int,
    ) -> None:
        super().__init__(seed=seed, in_flight=in_flight, stop_when_passed=stop_when_passed, fix=fix, tune=tune)
        if unknown := sorted(set(costs) - set(OPERATORS)):
            raise ValueError(f"costs: {unknown[0]!r} is not allowed; allowed: {', '.join(OPERATORS)}")
        if Operator.DRAFT not in costs or min(costs.values()) <= 0:
            raise ValueError("costs must hold draft, and all must be above 0")
        self._operators = tuple(map(Operator, costs))
        self._costs = OperatorCosts({Operator(name): cost for name, cost in costs.items()})
        self._members = {
            f"{number} {member['name']}": _new_member(member, seed=seed + number, in_flight=in_flight)
            for number, member in enumerate(members, start=1)
        }
        self._arms: dict[tuple[Status | None, str], Arm] = {}
        self._pulls: dict[str, Pull] = {}  # by id of the open proposal
        self._num_repairs: dict[str, int] = {}  # asked for, by candidate id
        self._passes = Ranking()  # that can be improved
        self._failures: list[tuple[int, float, int, Tried]] = []  # a heap of what can be repaired; some out of date
        self._best: Tried | None = None

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        if observation is not None and observation.num_tokens is not None:
            self._costs.note(proposal.operator, num_tokens=observation.num_tokens)
        super().tell(proposal, observation)

    def end_drafts(self) -> None:
        super().end_drafts()
        for member in self._members.values():
            member.end_drafts()

    def _propose(self) -> Proposal | None:
        state = self._rng.getstate()
        choices = {
            operator: choice for operator in self._operators if (choice := self._choice_of(operator)) is not None
        }
        for name in sorted((*choices, *self._members), key=self._drawn_value, reverse=True):
            if name in self._members:
                asked = self._members[name].ask()
                if asked is None:
                    continue
                choice = Choice(operator=asked.operator, parents=asked.parents)
                return self._pulled(name, choice=choice, member=self._members[name], asked=asked)
            return self._pulled(name, choice=choices[Operator(name)], member=None, asked=None)
        self._rng.setstate(state)
        return None

    def _choose(self) -> Choice | None:
        """An operator's choice, for whether there is one; what is proposed is found in `_propose`."""
        choices = (self._choice_of(operator) for operator in self._operators)
        return next((choice for choice in choices if choice is not None), None)

    def _could_go_on(self) -> bool:
        return super()._could_go_on() or any(not member.finished for member in self._members.values())

    def _opened(self, proposal: Proposal) -> None:
        if proposal.operator is Operator.REPAIR:
            parent = proposal.parents[0]
            self._num_repairs[parent] = self._num_repairs.get(parent, 0) + 1
            if parent in self._tried:
                self._queue_repair(self._tried[parent])

    def _learn(self, proposal: Proposal, observation: Observation | None) -> None:
        pull = self._pulls.pop(proposal.id)
        pull.arm.num_open -= 1
        tried = None if observation is None else self._note(observation)
        if tried is not None:
            self._keep(tried)
        if observation is not None:
            success = tried is not None and tried.reward > pull.to_beat
            pull.arm.num_successes += success
            pull.arm.num_failures += not success
        if tried is not None and (self._best is None or tried.reward > self._best.reward):
            self._best = tried
        if pull.member is not None and pull.asked is not None:
            pull.member.tell(pull.asked, observation)

    def _pulled(self, name: str, *, choice: Choice, member: Member | None, asked: Proposal | None) -> Proposal:
        proposal = self._open_choice(choice)
        arm = self._arms.setdefault((self._situation, name), Arm())
        arm.num_open += 1
        arm.asked[choice.operator] += 1
        to_beat = 0.0 if self._best is None else self._best.reward
        self._pulls[proposal.id] = Pull(arm=arm, to_beat=to_beat, member=member, asked=asked)
        self._opened(proposal)
        return proposal

    @property
    def _situation(self) -> Status | None:
        return None if self._best is None else self._best.status

    def _drawn_value(self, name: str) -> float:
        arm = self._arms.get((self._situation, name), Arm())
        rate = self._rng.betavariate(1.0 + arm.num_successes, 1.0 + arm.num_failures + arm.num_open)
        usual = self._costs.of(Operator.DRAFT if name in self._members else Operator(name))
        cost = sum(num * self._costs.of(operator) for operator, num in arm.asked.items())
        return rate / max((cost + usual) / (arm.asked.total() + 1), MIN_COST)

    def _choice_of(self, operator: Operator) -> Choice | None:
        if operator is Operator.DRAFT:
            return self._draft_choice()
        if operator is Operator.REPAIR:
            return self._repair()
        if operator is Operator.MERGE:
            return self._merge_drawn(self._passes)
        if not self._passes:
            return None
        num_open_from = {self._tried[parent]: num for parent, num in self._num_open_from.items()}
        return self._next_choice(self._passes.drawn(self._rng, num_open_from=num_open_from))

    def _repair(self) -> Choice | None:
        """Of the failure with the fewest repairs, of those the most advanced, of those the newest."""
        while self._failures:
            num_repairs, _, _, tried = self._failures[0]
            choice = self._next_choice(tried)
            if choice is not None and num_repairs == self._num_repairs.get(tried.candidate_id, 0):
                return choice
            heapq.heappop(self._failures)
        return None

    def _keep(self, tried: Tried) -> None:
        """Where it is found when something is to be taken further."""
        if self._next_choice(tried) is None:
            return
        if tried.passed:
            self._passes.add(tried)
        else:
            self._queue_repair(tried)

    def _queue_repair(self, tried: Tried) -> None:
        num_repairs = self._num_repairs.get(tried.candidate_id, 0)
        heapq.heappush(self._failures, (num_repairs, -tried.reward, -tried.number, tried))

    def _bar(self, choice: Choice) -> None:
        super()._bar(choice)
        if choice.operator is Operator.IMPROVE:
            self._passes.discard(self._tried[choice.parents[0]])


def _new_member(member: Mapping[str, Any], *, seed: int, in_flight: int) -> Member:
    """Limits, ends, mending and tuning are the portfolio's."""
    own = {"in_flight": in_flight, "stop_when_passed": False, "fix": False, "tune": 0}
    options = {key: own.get(key, value) for key, value in member.items() if key != "name"}
    return MEMBERS[member["name"]](seed=seed, **options)
