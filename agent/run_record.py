"""Reads back what a run has on record: every problem's result, what was spent, under which conditions.

Decides nothing and knows nothing of how it is shown. Works while the run is going on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from agent.events import Confirmed, EndReason, Judged, SearchEnded
from agent.faults import Fault, read_faults
from agent.gpu_share import GpuShare, GpuTally
from agent.ledger import Ledger
from agent.ledger_rows import Entry
from agent.limits import LimitReached, limits_reached
from agent.rule_count import RuleCount, RuleTally
from agent.run_folder import RunFolder, RunFolderError
from agent.search import Standing
from agent.tuning_record import PointTally, TuningResult
from sandbox.types import Budget, Candidate, Prices, Spend, Status, Verdict

INADMISSIBLE = "inadmissible"
NOTHING_JUDGED = "nothing judged"
UNVERIFIED = "unverified"
NOT_CONFIRMED = "not confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTwice:
    """Both verdicts on one candidate: the search's, and the one of a judge that had never seen it."""

    searching: Verdict
    confirming: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemResult:
    """What is on record for one problem. `best` is the best that passed in the search, `winner` what stands: the best
    of those that were confirmed, or `best` where nothing was put to that test. `candidate` is the winner's, or where
    none is left the best's. `confirmations` are all that were judged twice, in that order; `last` is the latest verdict
    of the search, of any kind, `unverified` the latest of that kind. `num_without_code` of the samples are one
    candidate, the empty one.

    `ended` says why its search is over; None while it is to go on.
    """

    problem_id: str
    spend: Spend
    num_without_code: int
    num_by_status: Mapping[Status, int]
    best: Verdict | None
    winner: Verdict | None
    confirmations: tuple[JudgedTwice, ...]
    candidate: Candidate | None
    last: Verdict | None
    unverified: Verdict | None
    ended: SearchEnded | None

    @property
    def end(self) -> EndReason | None:
        return None if self.ended is None else self.ended.end

    @property
    def confirmed(self) -> bool:
        return self.winner is not None and bool(self.confirmations)

    @property
    def begun(self) -> bool:
        """Whether there is anything to tell: not where a run ended before this problem had its first sample."""
        return self.ended is not None or self.spend.samples > 0 or bool(self.num_by_status)

    @property
    def word(self) -> str:
        """solved (by which operator), not confirmed, inadmissible, not done, nothing judged, unverified, unsolved."""
        if self.winner is not None and self.candidate is not None:
            return f"solved by {self.candidate.operator}"
        if self.best is not None:
            return NOT_CONFIRMED
        if self.end is EndReason.INADMISSIBLE:
            return INADMISSIBLE
        if self.ended is None:
            return "not done"
        if not self.num_by_status:
            return NOTHING_JUDGED
        return UNVERIFIED if Status.UNVERIFIED in self.num_by_status else "unsolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All that the report states. `environment` is as written when the run began, `config` too but for the budgets,
    which a resume may have changed. `budget` is each problem's; `prices` are the run's."""

    folder: RunFolder
    results: tuple[ProblemResult, ...]
    rules: tuple[RuleCount, ...]
    gpus: tuple[GpuShare, ...]
    faults: tuple[Fault, ...]
    tuning: tuple[TuningResult, ...]
    environment: Mapping[str, Any]
    config: Mapping[str, Any]
    budget: Budget
    run_budget: Budget
    prices: Prices
    wall_seconds: float

    @property
    def num_solved(self) -> int:
        return sum(result.winner is not None for result in self.results)

    @property
    def spend(self) -> Spend:
        """All searches' together; the wall time, in which they go on beside each other, is the run's."""
        return replace(sum((result.spend for result in self.results), Spend()), wall_seconds=self.wall_seconds)

    @property
    def limits_reached(self) -> tuple[LimitReached, ...]:
        """The limits of the run that were come to, or passed."""
        return limits_reached(self.run_budget, self.spend, prices=self.prices)

    @property
    def num_without_code(self) -> int:
        return sum(result.num_without_code for result in self.results)

    @property
    def num_by_status(self) -> Counter[Status]:
        return sum((Counter(result.num_by_status) for result in self.results), Counter())

    @property
    def timed(self) -> tuple[ProblemResult, ...]:
        return tuple(result for result in self.results if result.winner is not None and result.winner.timed)

    @property
    def why_nothing_was_timed(self) -> str | None:
        """One sentence; None where something was."""
        if self.timed:
            return None
        mode = self.config.get("judge", {}).get("mode")
        if self.environment.get("gpu") is None and mode != "replay":  # a cluster's GPUs are not in the record
            return "Nothing was timed: no GPU."
        if mode == "interpret":
            return "Nothing was timed: judge.mode is interpret."
        return "Nothing was timed: no candidate passed on the GPU."


def read_run(folder: RunFolder) -> RunRecord:
    """What the run has on record. Raises RunFolderError, LedgerError."""
    with Ledger.open_read_only(folder.ledger) as ledger:
        reading = _Reading(ledger.problem_keys())
        for entry in ledger.events():
            reading.add(entry)
        results, tuning = reading.results(ledger), reading.points.results(ledger)
    environment = folder.read_environment()
    try:
        faults = read_faults(folder.faults)
        config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        budget, run_budget = (Budget(**(config.get(name) or {})) for name in ("budget", "run_budget"))
        prices = Prices(**(config.get("prices") or {}))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise RunFolderError(f"{folder.root}: cannot be read: {error}") from error
    return RunRecord(
        folder=folder, results=results, tuning=tuning, rules=reading.rules.counts, gpus=reading.gpus.shares,
        faults=faults, environment=environment, config=config, budget=budget, run_budget=run_budget, prices=prices,
        wall_seconds=reading.wall_seconds,
    )  # fmt: skip


class _Reading:
    """All that a report takes from the events, in one pass: each verdict is parsed once, however long the ledger."""

    def __init__(self, problem_ids: Iterable[str]) -> None:
        self._standings = {problem_id: Standing(problem_id) for problem_id in problem_ids}
        self._last: dict[str, Verdict] = {}
        self._unverified: dict[str, Verdict] = {}
        self._seconds: dict[int, float] = {}  # by epoch
        self.rules, self.gpus, self.points = RuleTally(), GpuTally(), PointTally()

    def add(self, entry: Entry) -> None:
        event = entry.event
        self._standings[event.problem_id].add(event, epoch=entry.epoch, seconds=entry.seconds)
        self._seconds[entry.epoch] = max(entry.seconds, self._seconds.get(entry.epoch, 0.0))
        if isinstance(event, Judged):
            self._last[event.problem_id] = event.verdict
            if event.verdict.status is Status.UNVERIFIED:
                self._unverified[event.problem_id] = event.verdict
            self.rules.add(event.verdict)
        if isinstance(event, Judged | Confirmed):
            self.gpus.add(event.verdict)
        self.points.add(event)

    @property
    def wall_seconds(self) -> float:
        return sum(self._seconds.values())

    def results(self, ledger: Ledger) -> tuple[ProblemResult, ...]:
        """In the order of the problems."""
        return tuple(self._result(standing, ledger=ledger) for standing in self._standings.values())

    def _result(self, standing: Standing, *, ledger: Ledger) -> ProblemResult:
        shown = standing.winner or standing.best
        return ProblemResult(
            problem_id=standing.problem_id,
            spend=standing.spend,
            num_without_code=standing.num_without_code,
            num_by_status=standing.num_by_status,
            best=standing.best,
            winner=standing.winner,
            confirmations=tuple(
                JudgedTwice(searching=ledger.observation(verdict.candidate_id).verdict, confirming=verdict)
                for verdict in standing.confirmations
            ),
            candidate=None if shown is None else ledger.observation(shown.candidate_id).candidate,
            last=self._last.get(standing.problem_id),
            unverified=self._unverified.get(standing.problem_id),
            ended=standing.ended,
        )
