"""Adds a run's events up into the figures that a report draws: flow, curves, costs, failures, lineages.

Pure: reads a ledger, writes nothing, and knows nothing of how figures are shown. Works while the run is going on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.events import Judged, Proposed, Sampled, Unsampled
from agent.ledger import Ledger
from agent.ledger_rows import Entry
from agent.search import Standing
from agent.statistics import Draws
from sandbox.types import Candidate, Observation, Operator, Spend, Status, Verdict

MAX_ANCESTORS = 16  # of one winner; a strategy that repairs longer chains than this is shown from the nearest on

# Where a candidate can end, in order. `run` is interpreting or replaying its plan, and comparing.
SCREEN, TRACE, CHECK, RUN, PASSED = "screen", "trace", "check", "run", "passed"
STAGES = (SCREEN, TRACE, CHECK, RUN, PASSED)
_BY_RUNNING = frozenset({Status.WRONG_VALUES, Status.ILLEGAL_ACCESS, Status.LAUNCH_ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFlow:
    """How many candidates came to a stage of judging, and with which status some ended there."""

    stage: str
    num_entered: int
    num_ended: Mapping[Status, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFigures:
    """What one operator was asked for, brought and cost: its answers' tokens, its candidates' verdicts. A program that
    was there before counts where it came first."""

    operator: Operator
    num_proposed: int
    num_answered: int
    num_unsampled: int
    num_judged: int
    num_passed: int
    prompt_tokens: int
    completion_tokens: int
    gpu_seconds: float

    @property
    def spend(self) -> Spend:
        """What has a price of it."""
        tokens = self.prompt_tokens + self.completion_tokens
        return Spend(tokens=tokens, completion_tokens=self.completion_tokens, gpu_seconds=self.gpu_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Where the whole run stood when it had spent `spend`, by the verdicts of its searches (not by confirmations).

    `mean_speedup` is the geometric mean over all problems of the best so far, 1 where none is timed; None as long as
    nothing is. `spend.wall_seconds` is the run's, over all its epochs.
    """

    spend: Spend
    num_solved: int
    mean_speedup: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureClass:
    """Candidates that failed in one way, and the first of them."""

    status: Status
    error_class: str
    count: int
    num_problems: int
    problem_id: str
    example: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """All of them. `draws` are every problem's judged answers, the same program as often as it was drawn; None where
    some answer was no draft, so that not all are independent of each other."""

    flow: tuple[StageFlow, ...]
    operators: tuple[OperatorFigures, ...]
    curve: tuple[CurvePoint, ...]
    failures: tuple[FailureClass, ...]
    stage_seconds: Mapping[str, float]
    draws: Mapping[str, Draws] | None
    num_repeated: int
    num_epochs: int


def stage_of(verdict: Verdict) -> str:
    """Where judging this candidate ended. A verdict that was reused for an equal plan ended where the first one did."""
    if verdict.passed:
        return PASSED
    ran = verdict.correctness is not None or not {"interpret", "replay"}.isdisjoint(verdict.stage_seconds)
    if ran or verdict.status in _BY_RUNNING:
        return RUN
    if verdict.plan_hash is not None or "check" in verdict.stage_seconds:
        return CHECK
    return TRACE if "trace" in verdict.stage_seconds else SCREEN


def read_figures(ledger: Ledger) -> RunFigures:
    """Goes through the ledger once. Raises LedgerError."""
    adding = _Adding(tuple(ledger.problem_keys()))
    for entry in ledger.events():
        adding.add(entry)
    return adding.figures()


def lineage(ledger: Ledger, candidate: Candidate) -> tuple[Observation, ...]:
    """From the first draft to the candidate, by nearest parents; the last `MAX_ANCESTORS` where there are more.

    Raises LedgerError.
    """
    found = [ledger.observation(candidate.id)]
    while found[-1].candidate.parent_ids and len(found) < MAX_ANCESTORS:
        found.append(ledger.observation(found[-1].candidate.parent_ids[0]))
    return tuple(reversed(found))


@dataclass(slots=True)
class _Counts:
    """Of one operator."""

    proposed: int = 0
    answered: int = 0
    unsampled: int = 0
    judged: int = 0
    passed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gpu_seconds: float = 0.0


@dataclass(slots=True)
class _Failures:
    """Of one status and error class."""

    problem_id: str
    example: Verdict
    count: int = 0
    problem_ids: set[str] = field(default_factory=set)


class _Adding:
    """The sums so far."""

    def __init__(self, problem_ids: tuple[str, ...]) -> None:
        self._standings = {problem_id: Standing(problem_id) for problem_id in problem_ids}
        self._operators: dict[Operator, _Counts] = {}
        self._ended: dict[str, Counter[Status]] = {stage: Counter() for stage in STAGES}
        self._failures: dict[tuple[Status, str], _Failures] = {}
        self._stage_seconds: Counter[str] = Counter()
        self._drawn: dict[str, list[str]] = {problem_id: [] for problem_id in problem_ids}  # candidate ids
        self._first_operator: dict[str, Operator] = {}  # by candidate id
        self._speedups: dict[str, float | None] = {}  # by candidate id; None is a failure, 0 a pass that was not timed
        self._num_repeated = 0
        self._log_speedups: dict[str, float] = {}  # by problem, of those timed
        self._spend = Spend()
        self._solved: set[str] = set()
        self._curve = [CurvePoint(spend=Spend(), num_solved=0, mean_speedup=None)]
        self._epoch, self._seconds, self._seconds_before = 0, 0.0, 0.0

    def add(self, entry: Entry) -> None:
        self._pass_time(entry)
        event = entry.event
        standing = self._standings[event.problem_id]
        before, best_before = standing.spend, standing.best
        standing.add(event, epoch=entry.epoch, seconds=entry.seconds)
        after = standing.spend
        self._spend = Spend(
            samples=self._spend.samples + after.samples - before.samples,
            tokens=self._spend.tokens + after.tokens - before.tokens,
            judged=self._spend.judged + after.judged - before.judged,
            gpu_seconds=max(0.0, self._spend.gpu_seconds + after.gpu_seconds - before.gpu_seconds),
            wall_seconds=self._seconds_before + self._seconds,
        )
        match event:
            case Proposed():
                self._of(event.proposal.operator).proposed += 1
            case Unsampled():
                self._of(event.proposal.operator).unsampled += 1
            case Sampled():
                self._add_sampled(event)
            case Judged():
                self._add_judged(event)
        if standing.best is not best_before and standing.best is not None:
            self._add_best(event.problem_id, best=standing.best)

    def figures(self) -> RunFigures:
        self._curve.append(self._point())
        return RunFigures(
            flow=self._flow(),
            operators=tuple(
                _operator_figures(name, self._operators[name]) for name in Operator if name in self._operators
            ),
            curve=tuple(self._curve),
            failures=self._failure_classes(),
            stage_seconds=dict(self._stage_seconds.most_common()),
            draws=self._draws(),
            num_repeated=self._num_repeated,
            num_epochs=self._epoch,
        )

    def _pass_time(self, entry: Entry) -> None:
        if entry.epoch != self._epoch:
            self._seconds_before += self._seconds
            self._epoch, self._seconds = entry.epoch, 0.0
        self._seconds = max(self._seconds, entry.seconds)

    def _of(self, operator: Operator) -> _Counts:
        return self._operators.setdefault(operator, _Counts())

    def _add_sampled(self, event: Sampled) -> None:
        counts = self._of(event.proposal.operator)
        counts.answered += 1
        counts.prompt_tokens += event.prompt_tokens
        counts.completion_tokens += event.completion_tokens
        candidate_id = event.candidate.id
        self._num_repeated += event.candidate.source != "" and candidate_id in self._first_operator
        self._first_operator.setdefault(candidate_id, event.proposal.operator)
        self._drawn[event.problem_id].append(candidate_id)

    def _add_judged(self, event: Judged) -> None:
        verdict = event.verdict
        counts = self._of(self._first_operator[verdict.candidate_id])
        counts.judged += 1
        counts.passed += verdict.passed
        counts.gpu_seconds += verdict.spend.gpu_seconds
        self._ended[stage_of(verdict)][verdict.status] += 1
        self._stage_seconds.update(verdict.stage_seconds)
        self._speedups[verdict.candidate_id] = verdict.speedup if verdict.passed else None
        if verdict.failure is not None:
            key = (verdict.status, verdict.failure.error_class)
            found = self._failures.setdefault(key, _Failures(problem_id=event.problem_id, example=verdict))
            found.count += 1
            found.problem_ids.add(event.problem_id)

    def _add_best(self, problem_id: str, *, best: Verdict) -> None:
        self._solved.add(problem_id)
        if best.timed:
            self._log_speedups[problem_id] = math.log(best.speedup)
        self._curve.append(self._point())

    def _point(self) -> CurvePoint:
        logs = self._log_speedups
        mean = math.exp(math.fsum(logs.values()) / len(self._standings)) if logs else None
        return CurvePoint(spend=self._spend, num_solved=len(self._solved), mean_speedup=mean)

    def _flow(self) -> tuple[StageFlow, ...]:
        left = sum(ended.total() for ended in self._ended.values())
        flow = []
        for stage, ended in self._ended.items():
            flow.append(StageFlow(stage=stage, num_entered=left, num_ended=dict(ended.most_common())))
            left -= ended.total()
        return tuple(flow)

    def _failure_classes(self) -> tuple[FailureClass, ...]:
        """The commonest first."""
        ranked = sorted(self._failures.items(), key=lambda item: -item[1].count)
        return tuple(
            FailureClass(
                status=status,
                error_class=error_class,
                count=found.count,
                num_problems=len(found.problem_ids),
                problem_id=found.problem_id,
                example=found.example,
            )
            for (status, error_class), found in ranked
        )

    def _draws(self) -> dict[str, Draws] | None:
        if set(self._operators) - {Operator.DRAFT}:
            return None
        found = {}
        for problem_id, drawn in self._drawn.items():
            judged = [self._speedups[candidate_id] for candidate_id in drawn if candidate_id in self._speedups]
            passed = [speedup for speedup in judged if speedup is not None]
            timed = tuple(speedup for speedup in passed if speedup)
            found[problem_id] = Draws(num=len(judged), num_passed=len(passed), speedups=timed)
        return found


def _operator_figures(operator: Operator, counts: _Counts) -> OperatorFigures:
    return OperatorFigures(
        operator=operator,
        num_proposed=counts.proposed,
        num_answered=counts.answered,
        num_unsampled=counts.unsampled,
        num_judged=counts.judged,
        num_passed=counts.passed,
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        gpu_seconds=counts.gpu_seconds,
    )
