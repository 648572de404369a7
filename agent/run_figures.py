"""Adds a run's events up into the figures that a report draws: flow, curves, costs, failures, lineages.

Pure: reads a ledger, writes nothing, and knows nothing of how figures are shown. Works while the run is going on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.events import Judged, Proposed, Sampled, Unsampled
from agent.first_drafts import Drafts, Drawn
from agent.ledger import Ledger
from agent.ledger_rows import Entry
from agent.search import Standing
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
    """Where the whole run stood with what `spend` brought, by the verdicts of its searches (not by confirmations).

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
    """All of them.

    In `curve_by_answers` a program counts from when its answer came: how quickly judges were free changes nothing of
    what tokens or samples brought. In `curve_by_verdicts` from its verdict, with what had been spent by then.
    `drafts` are every problem's, the same program as often as it was drawn; None where some answer was no draft, so
    that not all are independent of each other.
    """

    flow: tuple[StageFlow, ...]
    operators: tuple[OperatorFigures, ...]
    curve_by_answers: tuple[CurvePoint, ...]
    curve_by_verdicts: tuple[CurvePoint, ...]
    failures: tuple[FailureClass, ...]
    stage_seconds: Mapping[str, float]
    drafts: Mapping[str, Drafts] | None
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
        self._drafted: dict[str, list[str]] = {problem_id: [] for problem_id in problem_ids}  # ids of proposals
        self._refused: set[str] = set()  # problems
        self._answers: dict[tuple[str, str], str] = {}  # candidate ids by problem and proposal
        self._answered_at: dict[str, Spend] = {}  # by candidate id, of the whole run
        self._first_operator: dict[str, Operator] = {}  # by candidate id
        self._judged: dict[str, Drawn] = {}  # by candidate id
        self._num_repeated = 0
        self._passes: list[tuple[str, str, Spend]] = []  # problem, candidate, and what had been spent at the verdict
        self._spend = Spend()
        self._epoch, self._seconds, self._seconds_before = 0, 0.0, 0.0

    def add(self, entry: Entry) -> None:
        self._pass_time(entry)
        event = entry.event
        standing = self._standings[event.problem_id]
        before = standing.spend
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
                self._add_proposed(event)
            case Unsampled():
                self._of(event.proposal.operator).unsampled += 1
                self._refused.add(event.problem_id)
            case Sampled():
                self._add_sampled(event)
            case Judged():
                self._add_judged(event)

    def figures(self) -> RunFigures:
        by_answers = [(self._answered_at[candidate], problem, candidate) for problem, candidate, _ in self._passes]
        by_verdicts = [(spend, problem, candidate) for problem, candidate, spend in self._passes]
        return RunFigures(
            flow=self._flow(),
            operators=tuple(
                _operator_figures(name, self._operators[name]) for name in Operator if name in self._operators
            ),
            curve_by_answers=self._curve(sorted(by_answers, key=lambda passed: passed[0].samples)),
            curve_by_verdicts=self._curve(by_verdicts),
            failures=self._failure_classes(),
            stage_seconds=dict(self._stage_seconds.most_common()),
            drafts=self._drafts(),
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

    def _add_proposed(self, event: Proposed) -> None:
        self._of(event.proposal.operator).proposed += 1
        if event.proposal.operator is Operator.DRAFT:
            self._drafted[event.problem_id].append(event.proposal.id)

    def _add_sampled(self, event: Sampled) -> None:
        counts = self._of(event.proposal.operator)
        counts.answered += 1
        counts.prompt_tokens += event.prompt_tokens
        counts.completion_tokens += event.completion_tokens
        candidate_id = event.candidate.id
        self._num_repeated += event.candidate.source != "" and candidate_id in self._first_operator
        self._first_operator.setdefault(candidate_id, event.proposal.operator)
        self._answers[event.problem_id, event.proposal.id] = candidate_id
        self._answered_at.setdefault(candidate_id, self._spend)

    def _add_judged(self, event: Judged) -> None:
        verdict = event.verdict
        counts = self._of(self._first_operator[verdict.candidate_id])
        counts.judged += 1
        counts.passed += verdict.passed
        counts.gpu_seconds += verdict.spend.gpu_seconds
        self._ended[stage_of(verdict)][verdict.status] += 1
        self._stage_seconds.update(verdict.stage_seconds)
        self._judged[verdict.candidate_id] = Drawn.of(verdict)
        if verdict.passed:
            self._passes.append((event.problem_id, verdict.candidate_id, self._spend))
        if verdict.failure is not None:
            key = (verdict.status, verdict.failure.error_class)
            found = self._failures.setdefault(key, _Failures(problem_id=event.problem_id, example=verdict))
            found.count += 1
            found.problem_ids.add(event.problem_id)

    def _curve(self, passes: Iterable[tuple[Spend, str, str]]) -> tuple[CurvePoint, ...]:
        """From nothing to the whole run's spend, with a point wherever a problem's best so far was surpassed. `passes`
        are in the order in which they count: what had been spent, problem, candidate."""
        best: dict[str, float] = {}  # speedups by problem; 0 is a pass that was not timed
        logs: dict[str, float] = {}  # of those timed

        def point(spend: Spend) -> CurvePoint:
            mean = math.exp(math.fsum(logs.values()) / len(self._standings)) if logs else None
            return CurvePoint(spend=spend, num_solved=len(best), mean_speedup=mean)

        points = [point(Spend())]
        for spend, problem_id, candidate_id in passes:
            speedup = self._judged[candidate_id].speedup or 0.0
            if problem_id not in best or speedup > best[problem_id]:
                best[problem_id] = speedup
                if speedup:
                    logs[problem_id] = math.log(speedup)
                points.append(point(spend))
        return (*points, point(self._spend))

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

    def _drafts(self) -> dict[str, Drafts] | None:
        if set(self._operators) - {Operator.DRAFT}:
            return None
        return {
            problem_id: Drafts(
                drawn=tuple(self._judged.get(self._answers.get((problem_id, id), "")) for id in ids),
                refused=problem_id in self._refused,
            )
            for problem_id, ids in self._drafted.items()
        }


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
