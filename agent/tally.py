"""Adds up a run's events into the figures that a screen shows: counts, best, rate, time left.

Knows nothing of screens. The clock is handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from agent.events import Confirmed, Event, Judged, NewBest, RunStarted, Sampled, SearchEnded
from agent.sampler import WITHOUT_MODEL
from sandbox.types import Budget, Status, Verdict


class Tally:
    """Where a run stands. Counts include what was done before a resume; rates are of this process alone."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at = clock()
        self._budget = self._run_budget = Budget()
        self._num_samples: dict[str, int] = {}  # by problem, those that are not done
        self._num_unjudged: dict[str, int] = {}  # the same; at the most, as equal programs are judged once
        self._candidate_ids: set[str] = set()
        self._confirmed: set[str] = set()  # problems
        self._num_judged_before = 0
        self._any_ended = False  # in this process
        self.num_problems = 0
        self.num_done = 0
        self.num_samples = 0
        self.num_by_status: Counter[Status] = Counter()
        self.best: dict[str, Verdict] = {}

    def add(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._start(event)
            case Sampled(proposal=proposal):
                self.num_samples += proposal.operator not in WITHOUT_MODEL
                self._count_open(event)
            case Judged():
                self.num_by_status[event.verdict.status] += 1
                if event.problem_id in self._num_unjudged:
                    self._num_unjudged[event.problem_id] -= 1
            case Confirmed():
                if event.verdict.passed:
                    self._confirmed.add(event.problem_id)
            case NewBest():
                self.best[event.problem_id] = event.verdict
            case SearchEnded():
                self.num_done += 1
                self._any_ended = True
                self._num_samples.pop(event.problem_id, None)
                self._num_unjudged.pop(event.problem_id, None)

    def _count_open(self, event: Sampled) -> None:
        if event.problem_id in self._num_samples:
            self._num_samples[event.problem_id] += event.proposal.operator not in WITHOUT_MODEL
            self._num_unjudged[event.problem_id] += event.candidate.id not in self._candidate_ids
        self._candidate_ids.add(event.candidate.id)

    def _start(self, event: RunStarted) -> None:
        self._started_at = self._clock()
        self._budget, self._run_budget = event.budget, event.run_budget
        self.num_problems = len(event.searches)
        self.num_done = sum(search.end is not None for search in event.searches)
        self._num_samples = {s.problem_id: s.spend.samples for s in event.searches if s.end is None}
        self._num_unjudged = {
            # What no model was asked for is judged, and no sample.
            s.problem_id: max(0, s.spend.samples - sum(s.num_by_status.values()))
            for s in event.searches
            if s.end is None
        }
        self.num_samples = sum(search.spend.samples for search in event.searches)
        for search in event.searches:
            self.num_by_status.update(search.num_by_status)
            if search.best is not None:
                self.best[search.problem_id] = search.best
            if search.confirmed:
                self._confirmed.add(search.problem_id)
        self._num_judged_before = self.num_judged

    @property
    def num_confirmed(self) -> int:
        """Problems."""
        return len(self._confirmed)

    @property
    def num_judged(self) -> int:
        return self.num_by_status.total()

    @property
    def fastest(self) -> tuple[str, Verdict] | None:
        """The problem with the largest measured speedup, and its verdict; None while nothing was timed."""
        timed = [(verdict.speedup, problem_id) for problem_id, verdict in self.best.items() if verdict.timed]
        if not timed:
            return None
        problem_id = max(timed)[1]
        return problem_id, self.best[problem_id]

    @property
    def seconds_left_at_most(self) -> float | None:
        """Time to judge what is sampled and what open budgets still allow, at the present rate of verdicts.

        None without a budget of samples, or before the first verdict of this process.
        """
        rate, limits = self.judged_per_second, []
        if (limit := self._budget.samples) is not None:
            limits.append(sum(max(0, limit - done) for done in self._num_samples.values()))
        if (limit := self._run_budget.samples) is not None:
            limits.append(max(0, limit - self.num_samples))
        if not limits or rate is None:
            return None
        return (min(limits) + sum(self._num_unjudged.values())) / rate

    @property
    def seconds_left_told(self) -> float | None:
        """The same, held back until a search has ended in this process. Before, the rate is that of a beginning, and
        every search counts with its whole budget, of which most need a part: a bound that is true and of no use."""
        return self.seconds_left_at_most if self._any_ended else None

    @property
    def judged_per_second(self) -> float | None:
        """None before the first verdict of this process."""
        count, elapsed = self.num_judged - self._num_judged_before, self._clock() - self._started_at
        return count / elapsed if count > 0 and elapsed > 0 else None
