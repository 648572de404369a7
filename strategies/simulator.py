"""Plays strategies against synthetic problems: no model, no judge, no GPU, and time that passes by itself.

Knows nothing of files or of statistics over problems. Budgets are kept as a search keeps them: samples and verdicts by
reserve and commit, the rest as it comes in.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.types import (
    MAX_UNSPENT,
    Candidate,
    Correctness,
    Failure,
    Finding,
    KernelFigures,
    Observation,
    Operator,
    Performance,
    Proposal,
    Spend,
    Status,
    Verdict,
)
from strategies.base import FixesFirst, Strategy
from strategies.behaviour import STYLES
from strategies.world import Hidden, SyntheticProblem, World, speedup_of

NewStrategy = Callable[[int], Strategy]  # from a seed

BASELINE_US = 100.0
INTERVAL = 1.02  # half width of a speedup's interval, as a factor
CORRECTNESS = Correctness(checked_by="simulator", seeds=(0,), weights="none", max_error_ratio=0.0, rms_error_ratio=0.0)
FAILURE = Failure(error_class="Simulated", message="simulated")
KERNEL = KernelFigures(
    name="simulated", registers=0, local_bytes=0, shared_bytes=0, num_warps=4, grid=(1, 1, 1), launches=1
)
NOTHING = Spend()
WITHOUT_MODEL = frozenset({Operator.FIX, Operator.TUNE})
FINDING = Finding(rule="simulated", start=0, end=0, found="", instead="", message="simulated")


@dataclass(slots=True, kw_only=True)
class Used:
    """What a simulated search has used. The names of `Spend`; plain, because one is made for every result."""

    samples: int = 0
    tokens: int = 0
    judged: int = 0
    gpu_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a search stands after one result. `best_speedup` is the true figure of what was measured as the best, 0
    while nothing has passed; `used` is all up to here; `depth` of this result, in steps from the problem."""

    operator: Operator
    status: Status
    depth: int
    used: Used
    best_speedup: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One search on one problem, result by result. `most_open` is the most proposals that were in flight at once;
    `unspent` says that it ended because its last answers took nothing of its budget."""

    problem: SyntheticProblem
    steps: tuple[Step, ...]
    most_open: int
    unspent: bool

    @property
    def mean_depth(self) -> float:
        return sum(step.depth for step in self.steps) / len(self.steps)

    def best_at(self, currency: str, *, limit: float) -> float:
        """The best speedup after the last result within `limit`; 0 if nothing passed by then.

        A strategy does not see its budget, so this is what a smaller budget would have given.
        """
        best = 0.0
        for step in self.steps:
            if getattr(step.used, currency) > limit:
                break
            best = step.best_speedup
        return best


@dataclass(slots=True, kw_only=True)
class _Play:
    """The state of one simulated search."""

    world: World
    problem: SyntheticProblem
    seed: int
    hidden: dict[str, Hidden] = field(default_factory=dict)  # by candidate id
    ordinals: dict[tuple[Operator, tuple[str, ...]], int] = field(default_factory=dict)
    used: Used = field(default_factory=Used)
    num_open: int = 0
    num_sampling: int = 0  # of those open, what a model is asked for
    num_unspent: int = 0  # answers of a model in a row that took nothing of any limit
    best_measured: float = 0.0
    best_speedup: float = 0.0

    def answer(self, proposal: Proposal) -> tuple[Hidden, Observation, float]:
        """What comes of it, and after how many seconds."""
        rng = self._rng(proposal)
        parents = tuple(self.hidden[parent] for parent in proposal.parents)
        hidden = self.problem.outcome(proposal.operator, parents=parents, world=self.world, rng=rng)
        cost = self.world.costs[proposal.operator]
        seconds = _exponential(cost.seconds, rng=rng) + _exponential(self.world.judge_seconds, rng=rng)
        self.num_open += 1
        self.num_sampling += proposal.operator not in WITHOUT_MODEL
        return hidden, self._observation(proposal, hidden=hidden, rng=rng), seconds

    def take_in(
        self,
        hidden: Hidden,
        *,
        proposal: Proposal,
        observation: Observation,
        now: float,
        limits: Mapping[str, float],
    ) -> Step:
        self.hidden[observation.candidate.id] = hidden
        operator, used = proposal.operator, self.used
        self.num_open -= 1
        self.num_sampling -= operator not in WITHOUT_MODEL
        self.used = Used(
            samples=used.samples + (operator not in WITHOUT_MODEL),
            tokens=used.tokens + self.world.costs[operator].tokens,
            judged=used.judged + 1,
            gpu_seconds=used.gpu_seconds + self.world.gpu_seconds_of(hidden.status),
            wall_seconds=now,
        )
        if any(getattr(used, currency) != getattr(self.used, currency) for currency in limits):
            self.num_unspent = 0
        else:
            self.num_unspent += operator not in WITHOUT_MODEL
        if observation.verdict.speedup > self.best_measured:
            self.best_measured = observation.verdict.speedup
            self.best_speedup = speedup_of(hidden.log_speed)
        return Step(
            operator=operator,
            status=hidden.status,
            depth=hidden.depth,
            used=self.used,
            best_speedup=self.best_speedup,
        )

    def within(self, limits: Mapping[str, float], *, fixes_next: bool) -> bool:
        """Whether one more proposal may be asked for; what is open is reserved. A fix asks no model."""
        for currency, limit in limits.items():
            if fixes_next and currency in ("samples", "tokens"):
                continue
            reserved = {"samples": self.num_sampling, "judged": self.num_open}.get(currency, 0)
            if getattr(self.used, currency) + reserved >= limit:
                return False
        return fixes_next or not self.unspent(limits)

    def unspent(self, limits: Mapping[str, float]) -> bool:
        return bool(limits) and self.num_unspent >= MAX_UNSPENT

    def _rng(self, proposal: Proposal) -> random.Random:
        """The same for the same draft of the same problem, whatever the strategy: paired comparisons vary less."""
        key = (proposal.operator, proposal.parents)
        ordinal = self.ordinals[key] = self.ordinals.get(key, -1) + 1
        parents = "".join(parent[:8] for parent in proposal.parents)
        text = f"{self.seed} {self.problem.number} {proposal.operator} {parents} {ordinal}"
        return random.Random(text)

    def _observation(self, proposal: Proposal, *, hidden: Hidden, rng: random.Random) -> Observation:
        style, num_tokens = STYLES[hidden.style][1], self.world.costs[proposal.operator].tokens
        candidate = Candidate(
            problem_id=f"synthetic{self.problem.number}",
            source=f"{style} {rng.getrandbits(64)}",
            operator=proposal.operator,
            parent_ids=proposal.parents,
        )
        if hidden.log_speed is None:
            findings = (FINDING,) if hidden.fixable else ()
            verdict = Verdict(
                candidate_id=candidate.id, status=hidden.status, failure=FAILURE, findings=findings, spend=NOTHING
            )
            return Observation(candidate=candidate, verdict=verdict, num_tokens=num_tokens)
        speedup = math.exp(rng.gauss(hidden.log_speed, self.world.speeds.noise))
        verdict = Verdict(
            candidate_id=candidate.id,
            status=Status.PASSED,
            correctness=CORRECTNESS,
            plan_hash=candidate.id,
            performance=Performance(
                runtime_us=BASELINE_US / speedup,
                baseline_us={"eager": BASELINE_US},
                against="eager",
                speedup=speedup,
                speedup_low=speedup / INTERVAL,
                speedup_high=speedup * INTERVAL,
                repetitions=1,
            ),
            kernels=(KERNEL,),
            spend=NOTHING,
        )
        return Observation(candidate=candidate, verdict=verdict, num_tokens=num_tokens)


def play(
    world: World,
    *,
    problem_number: int,
    new_strategy: NewStrategy,
    limits: Mapping[str, float],
    in_flight: int,
    seed: int,
) -> Trajectory:
    """One search on problem `problem_number` of the world that `seed` draws, with at most `in_flight` proposals open.

    `limits` are by the names of a budget; without any it ends when the strategy does. Each result is told at its time,
    so out of order. It ends too when the model's last `MAX_UNSPENT` answers took nothing of what is limited.
    """
    rng = random.Random(f"{seed} problem {problem_number}")
    problem = SyntheticProblem.drawn(world, number=problem_number, rng=rng)
    state = _Play(world=world, problem=problem, seed=seed)
    strategy = new_strategy(rng.getrandbits(63))
    due: list[tuple[float, int, Proposal, Hidden, Observation]] = []
    steps: list[Step] = []
    now, num_asked, most_open = 0.0, 0, 0
    while True:
        while len(due) < in_flight and state.within(limits, fixes_next=_fixes_next(strategy)):
            proposal = strategy.ask()
            if proposal is None:
                break
            hidden, observation, seconds = state.answer(proposal)
            heapq.heappush(due, (now + seconds, num_asked, proposal, hidden, observation))
            num_asked += 1
        most_open = max(most_open, len(due))
        if not due:
            unspent = state.unspent(limits) and not strategy.finished
            return Trajectory(problem=problem, steps=tuple(steps), most_open=most_open, unspent=unspent)
        now, _, proposal, hidden, observation = heapq.heappop(due)
        steps.append(state.take_in(hidden, proposal=proposal, observation=observation, now=now, limits=limits))
        strategy.tell(proposal, observation)


def _fixes_next(strategy: Strategy) -> bool:
    return isinstance(strategy, FixesFirst) and strategy.fixes_next


def _exponential(mean: float, *, rng: random.Random) -> float:
    return rng.expovariate(1.0 / mean) if mean > 0 else 0.0
