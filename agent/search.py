"""One problem's search: its strategy, what is open, and where it stands against its budget.

Knows nothing of samplers, judges, files or other searches. The same code runs live and in a replay, so that both reach
the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.account import Account
from agent.events import (
    Confirmed,
    DurableEvent,
    EndReason,
    Judged,
    Proposed,
    Sampled,
    SearchEnded,
    SearchSummary,
    Unsampled,
)
from agent.ledger import ResumeError
from agent.ledger_rows import Entry
from agent.run_budget import OF_MODELS, RunBudget
from agent.sampler import WITHOUT_MODEL
from agent.unspent import UnspentCount
from sandbox.types import Budget, Candidate, Observation, Operator, Prices, Problem, Proposal, Spend, Status, Verdict
from strategies.base import FixesFirst, Strategy, TunesFirst


class Standing:
    """What one search spent and reached.

    `ended` is how it ended when last worked on; None once a later epoch goes on with it.
    """

    def __init__(self, problem_id: str) -> None:
        self.problem_id = problem_id
        self.num_by_status: Counter[Status] = Counter()
        self.best: Verdict | None = None
        self.passed: list[Verdict] = []
        self.confirmations: list[Verdict] = []  # all of them, whatever came of them
        self.num_confirmed_since_judged = 0
        self.ended: SearchEnded | None = None
        self._ended_in = 0  # the epoch; what was in flight may still come in there
        self._account = Account()
        self.num_without_code = 0  # of the samples; equal for the judge, which sees them once

    @property
    def spend(self) -> Spend:
        return self._account.spend

    def pass_time(self, *, epoch: int, seconds: float) -> None:
        """The search was still going on at `seconds` of `epoch`."""
        self._account.pass_time(epoch=epoch, seconds=seconds)

    @property
    def confirmed(self) -> Verdict | None:
        """The best of those that were confirmed, by the figures that were confirmed; of equals the first."""
        return max((v for v in self.confirmations if v.passed), key=lambda v: v.rank, default=None)

    @property
    def winner(self) -> Verdict | None:
        """What stands as the result: the confirmed one; the best of the search where nothing was put to that test."""
        return self.confirmed if self.confirmations else self.best

    def add(self, event: DurableEvent, *, epoch: int, seconds: float) -> None:
        if isinstance(event, Confirmed):  # belongs to no budget: the search is over
            self.confirmations.append(event.verdict)
            self.num_confirmed_since_judged += 1
            return
        if isinstance(event, SearchEnded) and event.end is EndReason.STOPPED:
            if self.ended is None:
                self.pass_time(epoch=epoch, seconds=seconds)
            return
        self._account.charge(event, epoch=epoch, seconds=seconds)
        if epoch != self._ended_in:
            self.ended = None
        match event:
            case SearchEnded():
                self.ended, self._ended_in = event, epoch
            case Sampled():
                self.num_without_code += event.candidate.source == ""
            case Judged(verdict=verdict):
                self.num_by_status[verdict.status] += 1
                self.num_confirmed_since_judged = 0
                if verdict.passed:
                    self.passed.append(verdict)
                if verdict.passed and (self.best is None or verdict.rank > self.best.rank):
                    self.best = verdict

    def summary(self, *, ended: SearchEnded | None) -> SearchSummary:
        return SearchSummary(
            problem_id=self.problem_id,
            spend=self.spend,
            num_by_status=dict(self.num_by_status),
            best=self.best,
            confirmed=self.confirmed is not None,
            end=None if ended is None else ended.end,
            end_detail=None if ended is None else ended.detail,
        )


def standings(entries: Iterable[Entry]) -> dict[str, Standing]:
    """Where every search of a ledger stands, by problem id; for reports."""
    found: dict[str, Standing] = {}
    for entry in entries:
        standing = found.setdefault(entry.event.problem_id, Standing(entry.event.problem_id))
        standing.add(entry.event, epoch=entry.epoch, seconds=entry.seconds)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proposal that is not sampled yet.

    `ordinal` is how many earlier proposals of the search had its operator, `repeat` how many of those also its parents.
    """

    proposal: Proposal
    ordinal: int
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a proposal, before its verdict is told."""

    proposal: Proposal
    candidate: Candidate
    num_tokens: int


class Search:
    """Decides for one problem. Its budget is held here by reserve and commit; the run's, which it shares, it asks.

    A proposal reserves one sample and one verdict; its results turn them into spend or give them back. Tokens and GPU
    seconds, and so dollars, are known only afterwards, so what is in flight may overrun those limits. A fix or a tuning
    point asks no model and reserves a verdict alone: it is still proposed when samples or tokens are used up.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        strategy: Strategy,
        budget: Budget,
        prices: Prices,
        run_budget: RunBudget,
        observation_of: Callable[[str], Observation],
    ) -> None:
        """`prices` are what one problem is charged. `observation_of` looks up a judged candidate by id."""
        self.problem = problem
        self.standing = Standing(problem.id)
        self.ended: SearchEnded | None = None
        self._strategy = strategy
        self._budget = budget
        self._prices = prices
        self._run_budget = run_budget
        self._observation_of = observation_of
        self._unspent = UnspentCount(budget, run_budget=run_budget.limits, prices=run_budget.prices)
        self._asked: dict[str, Asked] = {}  # by proposal id
        self._waiting: dict[str, list[Answer]] = {}  # for a verdict, by candidate id
        self._judged: set[str] = set()
        self._num_asked: Counter[tuple[Operator, tuple[str, ...] | None]] = Counter()
        self._drafts_exhausted: str | None = None  # the sampler's reason
        self.num_proposed = 0

    @property
    def done(self) -> bool:
        """Nothing is open and nothing more will be proposed."""
        return self.ended is not None and self._idle

    @property
    def best(self) -> Verdict | None:
        """The best that passed so far."""
        return self.standing.best

    @property
    def unsampled(self) -> list[Asked]:
        """What was proposed and has no answer yet."""
        return list(self._asked.values())

    @property
    def unjudged(self) -> list[Candidate]:
        """What was sampled and has no verdict yet, each program once."""
        return [waiting[0].candidate for waiting in self._waiting.values()]

    @property
    def held_back(self) -> bool:
        """Nothing is open although it has not ended: it waits for what the others have reserved of the run's budget."""
        return self.ended is None and self._idle

    def summary(self) -> SearchSummary:
        return self.standing.summary(ended=self.ended)

    def propose(self, *, epoch: int, seconds: float) -> Asked | None:
        """The next proposal that strategy and budget allow. None: nothing now, and if `done`, nothing ever."""
        if self.ended is not None:
            return None
        self.standing.pass_time(epoch=epoch, seconds=seconds)
        self._run_budget.pass_time(epoch=epoch, seconds=seconds)
        if not self._may_propose():
            return None
        proposal = self._strategy.ask()
        if proposal is None:
            self._close_if_dry()
            return None
        if proposal.operator is Operator.DRAFT and self._drafts_exhausted is not None:
            self._close(EndReason.EXHAUSTED, self._drafts_exhausted)
            return None
        return self._open(proposal)

    def replay(self, entry: Entry) -> None:
        """Takes one recorded event in. Raises ResumeError if the strategy does not propose what it did."""
        match entry.event:
            case Proposed(proposal=recorded):
                self._charge(entry.event, epoch=entry.epoch, seconds=entry.seconds)
                self._check_same(recorded, proposed=self._strategy.ask())
                self._open(recorded)
            case SearchEnded() | Confirmed():  # for reports; whether the search still is over, `propose` finds anew
                self._charge(entry.event, epoch=entry.epoch, seconds=entry.seconds)
            case event:
                self.add(event, epoch=entry.epoch, seconds=entry.seconds)

    def add(self, event: Sampled | Unsampled | Judged, *, epoch: int, seconds: float) -> Candidate | None:
        """Takes a durable result in and tells the strategy what is known. Returns a candidate that must now be judged.

        A verdict is told for every proposal that led to its program, in the order in which they were sampled.
        """
        before = self.standing.spend
        self._charge(event, epoch=epoch, seconds=seconds)
        to_judge = self._tell(event)
        self._unspent.spent(before, self.standing.spend)
        self._reserve()
        return to_judge

    def _tell(self, event: Sampled | Unsampled | Judged) -> Candidate | None:
        match event:
            case Sampled(proposal=proposal, candidate=candidate):
                self._asked.pop(proposal.id, None)  # abandoned searches wait for nothing
                return self._sampled(Answer(proposal=proposal, candidate=candidate, num_tokens=event.num_tokens))
            case Unsampled(proposal=proposal, reason=reason):
                self._asked.pop(proposal.id, None)
                if proposal.operator is Operator.DRAFT:
                    self._drafts_exhausted = reason
                self._strategy.tell(proposal, None)
            case Judged(verdict=verdict):
                self._judged.add(verdict.candidate_id)
                for answer in self._waiting.pop(verdict.candidate_id, ()):
                    self._tell_verdict(answer, verdict=verdict)
        return None

    def _tell_verdict(self, answer: Answer, *, verdict: Verdict) -> None:
        self._unspent.answered(answer.proposal.operator)
        observation = Observation(candidate=answer.candidate, verdict=verdict, num_tokens=answer.num_tokens)
        self._strategy.tell(answer.proposal, observation)

    def abandon(self, reason: str) -> None:
        """The problem itself is at fault: nothing more is proposed or judged, and nothing in flight is waited for."""
        self._asked.clear()
        self._waiting.clear()
        self._reserve()
        self._close(EndReason.INADMISSIBLE, reason)

    def _sampled(self, answer: Answer) -> Candidate | None:
        """A program that was judged before gets the same verdict again; one that is being judged waits for it."""
        if self.ended is not None and self.ended.end is EndReason.INADMISSIBLE:
            return None
        candidate = answer.candidate
        if candidate.id in self._judged:
            self._tell_verdict(answer, verdict=self._observation_of(candidate.id).verdict)
            return None
        waiting = self._waiting.setdefault(candidate.id, [])
        waiting.append(answer)
        return candidate if len(waiting) == 1 else None

    @property
    def _idle(self) -> bool:
        return not self._asked and not self._waiting

    def _charge(self, event: DurableEvent, *, epoch: int, seconds: float) -> None:
        self.standing.add(event, epoch=epoch, seconds=seconds)
        self._run_budget.charge(event, epoch=epoch, seconds=seconds)

    @property
    def _reserved(self) -> Spend:
        num_samples = sum(asked.proposal.operator not in WITHOUT_MODEL for asked in self._asked.values())
        return Spend(samples=num_samples, judged=len(self._asked) + len(self._waiting))

    def _reserve(self) -> None:
        reserved = self._reserved
        self._run_budget.reserve(self.problem.id, samples=reserved.samples, judged=reserved.judged)

    def _may_propose(self) -> bool:
        """Whether no limit forbids the next proposal. Ends the search where one always will."""
        but = OF_MODELS if self._needs_no_model else ()
        spend = self.standing.spend + self._reserved
        if (limit := self._budget.reached_by(spend, prices=self._prices, but=but)) is not None:
            if self._idle:
                self._close(EndReason.BUDGET, limit)
            return False
        if self._strategy.finished:
            return True  # `ask` finds that out: what else there is changes nothing for it
        if self._unspent.too_many and not but:
            if self._idle:
                self._close(EndReason.UNSPENT, self._unspent.text)
            return False
        if self._run_budget.reached(but=but) is None:
            return True
        if self._idle and (limit := self._run_budget.used_up(but=but)) is not None:
            self._close(EndReason.RUN_BUDGET, limit)
        return False

    @property
    def _needs_no_model(self) -> bool:
        """Of the next proposal."""
        fixes_next = isinstance(self._strategy, FixesFirst) and self._strategy.fixes_next
        return fixes_next or (isinstance(self._strategy, TunesFirst) and self._strategy.tunes_next)

    def _open(self, proposal: Proposal) -> Asked:
        by_operator, by_parents = (proposal.operator, None), (proposal.operator, proposal.parents)
        asked = Asked(proposal=proposal, ordinal=self._num_asked[by_operator], repeat=self._num_asked[by_parents])
        self._num_asked.update((by_operator, by_parents))
        self.num_proposed += 1
        self._asked[proposal.id] = asked
        self._reserve()
        return asked

    def _close(self, end: EndReason, detail: str | None) -> None:
        self.ended = SearchEnded(problem_id=self.problem.id, end=end, detail=detail)

    def _close_if_dry(self) -> None:
        if self._strategy.finished and self._drafts_exhausted is not None:
            self._close(EndReason.EXHAUSTED, self._drafts_exhausted)
        elif self._strategy.finished:
            self._close(EndReason.FINISHED, None)
        elif self._idle:
            self._close(EndReason.IDLE, "the strategy proposed nothing although nothing was open")

    def _check_same(self, recorded: Proposal, *, proposed: Proposal | None) -> None:
        if proposed != recorded:
            now = "nothing" if proposed is None else f"{proposed.id} from {list(proposed.parents)}"
            raise ResumeError(
                f"problem {self.problem.id}: the ledger holds proposal {recorded.id} from {list(recorded.parents)}, "
                f"the strategy now proposes {now}; its name, options, seed or code changed since the run began"
            )
