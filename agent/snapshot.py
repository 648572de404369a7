"""Where a run stands at one moment, small enough to be written every second and read from another machine.

Knows nothing of files or screens. `Standings` adds events up; `Snapshot` is what they come to, as JSON and back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent import wording
from agent.events import (
    Confirmed,
    Event,
    Judged,
    NewBest,
    RunEnded,
    RunStarted,
    Sampled,
    SearchEnded,
    Starting,
    Unsampled,
)
from agent.sampler import WITHOUT_MODEL
from agent.tally import Tally
from sandbox.spend import amount
from sandbox.types import Budget, Prices, Spend, Status

VERSION = 2
NUM_EVENTS = 12  # the latest, in words

State = Literal["starting", "running", "completed", "stopped", "failed", "refused"]
ENDED: frozenset[State] = frozenset({"completed", "stopped", "failed", "refused"})


class SnapshotError(ValueError):
    """What was read is no snapshot. One line."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemSnapshot(_Part):
    """One problem. `speedup` is the best that was measured; `end` why its search is over, None while it goes on."""

    problem: str
    samples: int
    tokens: int
    judged: int
    gpu_seconds: float
    statuses: dict[Status, int]
    solved: bool
    speedup: float | None
    end: str | None


class EventSnapshot(_Part):
    """`seconds` since the process began with the run."""

    seconds: float
    text: str


class Snapshot(_Part):
    """The whole run. `budget` is each problem's, by currency, `run_budget` the run's, `spend` what it spent of each,
    null for `usd` without prices; `seconds` is how long this process is at it."""

    version: int = VERSION
    state: State
    error: str | None
    seconds: float
    budget: dict[str, float | None]
    run_budget: dict[str, float | None]
    spend: dict[str, float | None]
    judged_per_second: float | None
    seconds_left_at_most: float | None
    num_confirmed: int
    problems: tuple[ProblemSnapshot, ...]
    events: tuple[EventSnapshot, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """Raises SnapshotError."""
        try:
            found = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise SnapshotError(f"is no snapshot of a run: {where}: {first['msg']}") from error
        if found.version != VERSION:
            raise SnapshotError(f"has version {found.version}; this KernelLoop reads version {VERSION}")
        return found


@dataclass(slots=True)
class _Problem:
    samples: int = 0
    tokens: int = 0
    judged: int = 0
    gpu_seconds: float = 0.0
    statuses: Counter[Status] = field(default_factory=Counter)
    solved: bool = False
    speedup: float | None = None
    end: str | None = None


class Standings:
    """Every problem's sums so far, and the run's. The clock gives seconds from any origin."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at = clock()
        self._tally = Tally(clock=clock)
        self._state: State = "starting"
        self._error: str | None = None
        self._budget = self._run_budget = Budget()
        self._prices = Prices()
        self._spend = Spend()  # the run's; of its wall time that of earlier epochs
        self._work_began_at: float | None = None
        self._problems: dict[str, _Problem] = {}
        self._events: deque[EventSnapshot] = deque(maxlen=NUM_EVENTS)

    @property
    def ended(self) -> bool:
        return self._state in ENDED

    def stop(self) -> None:
        """The process leaves the run without having ended it."""
        if not self.ended:
            self._state = "stopped"

    def add(self, event: Event) -> None:
        self._tally.add(event)
        match event:
            case RunStarted():
                self._start(event)
            case Sampled():
                self._add_sampled(event)
            case Judged(problem_id=problem_id, verdict=verdict):
                problem = self._problems[problem_id]
                problem.judged += 1
                problem.gpu_seconds += verdict.spend.gpu_seconds
                self._spend += Spend(judged=1, gpu_seconds=verdict.spend.gpu_seconds)
                problem.statuses[verdict.status] += 1
            case NewBest(problem_id=problem_id, verdict=verdict):
                self._problems[problem_id].solved = True
                self._problems[problem_id].speedup = verdict.speedup if verdict.timed else None
            case SearchEnded(problem_id=problem_id, end=end):
                self._problems[problem_id].end = end.value
            case RunEnded(outcome=outcome, error=error):
                self._state, self._error = outcome.value, error
        if (text := event_text(event)) is not None:
            self._events.append(EventSnapshot(seconds=self._seconds(), text=text))

    def _add_sampled(self, event: Sampled) -> None:
        asked_model = event.proposal.operator not in WITHOUT_MODEL
        problem = self._problems[event.problem_id]
        problem.samples += asked_model
        problem.tokens += event.num_tokens
        tokens, completion_tokens = event.num_tokens, event.completion_tokens
        self._spend += Spend(samples=int(asked_model), tokens=tokens, completion_tokens=completion_tokens)

    def snapshot(self) -> Snapshot:
        passed = 0.0 if self._work_began_at is None else self._clock() - self._work_began_at
        spend = self._spend + Spend(wall_seconds=passed)
        return Snapshot(
            state=self._state,
            error=self._error,
            seconds=self._seconds(),
            budget={name: getattr(self._budget, name) for name in Budget.__slots__},
            run_budget={name: getattr(self._run_budget, name) for name in Budget.__slots__},
            spend={name: _rounded(amount(name, spend, prices=self._prices)) for name in Budget.__slots__},
            judged_per_second=self._tally.judged_per_second,
            seconds_left_at_most=self._tally.seconds_left_told,
            num_confirmed=self._tally.num_confirmed,
            problems=tuple(_snapshot(problem_id, of=problem) for problem_id, problem in self._problems.items()),
            events=tuple(self._events),
        )

    def _seconds(self) -> float:
        return round(self._clock() - self._started_at, 3)

    def _start(self, event: RunStarted) -> None:
        self._state, self._budget, self._run_budget = "running", event.budget, event.run_budget
        self._prices, self._spend, self._work_began_at = event.prices, event.spend, self._clock()
        for search in event.searches:
            self._problems[search.problem_id] = _Problem(
                samples=search.spend.samples,
                tokens=search.spend.tokens,
                judged=search.spend.judged,
                gpu_seconds=search.spend.gpu_seconds,
                statuses=Counter(search.num_by_status),
                solved=search.best is not None,
                speedup=search.best.speedup if search.best is not None and search.best.timed else None,
                end=None if search.end is None else search.end.value,
            )


def event_text(event: Event) -> str | None:
    """What a watcher is told of an event, in one line; None for the many that only count."""
    match event:
        case Starting(what=what):
            return f"starting {what}"
        case RunStarted(searches=searches):
            return f"started with {len(searches)} problems"
        case Unsampled(problem_id=problem_id, proposal=proposal, reason=reason):
            return f"{problem_id}: no answer to {proposal.id}: {wording.printable(reason)}"
        case Judged(problem_id=problem_id, verdict=verdict):
            return f"{problem_id}: {verdict.candidate_id[:12]} {verdict.status}"
        case NewBest(problem_id=problem_id, verdict=verdict):
            return f"{problem_id}: new best, {wording.speedup_text(verdict)}"
        case Confirmed(problem_id=problem_id, verdict=verdict):
            held = (
                f"confirmed, {wording.speedup_text(verdict)}" if verdict.passed else f"not confirmed: {verdict.status}"
            )
            return f"{problem_id}: {held}"
        case SearchEnded(problem_id=problem_id, end=end):
            return f"{problem_id}: search ended: {end}"
        case RunEnded(outcome=outcome):
            return f"run {outcome}"
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _snapshot(problem_id: str, *, of: _Problem) -> ProblemSnapshot:
    return ProblemSnapshot(
        problem=problem_id,
        samples=of.samples,
        tokens=of.tokens,
        judged=of.judged,
        gpu_seconds=round(of.gpu_seconds, 3),
        statuses=dict(of.statuses),
        solved=of.solved,
        speedup=of.speedup,
        end=of.end,
    )
