"""What one cell of an experiment has on record for each problem, counted up to the budget and not beyond.

What a search found at the end is what was confirmed, as a run's report has it: a confirmation takes the place of the
verdict that it tested, and where all that were put to the test failed, nothing is solved.

Tokens are known once an answer is there, so a search may overrun its limit by what was in flight, some strategies more
than others. So that arms are equal, only what came within the limit counts here. A program counts from when its answer
came (tokens, samples) or its verdict (judged, GPU seconds): how quickly the judge was free favours nobody.

Pure: reads a ledger, writes nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.curves import Curve
from agent.events import Confirmed, EndReason, Judged, Proposed, Sampled, Unsampled
from agent.experiment_config import Cell
from agent.first_drafts import Drafts, Drawn
from agent.ledger import Ledger
from agent.search import Standing
from sandbox.types import Operator, Proposal, Spend, Verdict

WITH_ANSWERS = frozenset({"samples", "tokens"})  # currencies that an answer is paid in; the others a verdict
UNTIMED = 1.0  # what stands in a curve for a pass that was not timed: solved, and no speedup


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFigures:
    """One problem of one cell.

    `curves` are best-so-far by currency, and end at `solved` and `speedup`: on the way a program counts as it was
    judged, but not above what was confirmed in the end. `solved` says that a program passed within the budget and, if
    any was judged again, that one of those passed again; `speedup` is the confirmed one where one was confirmed, None
    where nothing was timed. `num_refuted` passed in the search and failed when judged again. `spend` is all that was
    spent, also beyond the limit. `drafts` are as judged, beyond it too.
    """

    cell: Cell
    problem_id: str
    curves: Mapping[str, Curve]
    solved: bool
    confirmed: bool
    speedup: float | None
    num_refuted: int
    spend: Spend
    drafts: Drafts
    end: EndReason | None

    def first_pass(self, currency: str) -> float | None:
        """What had been spent when the first pass came."""
        curve = self.curves[currency]
        return next((spent for spent, best in zip(curve.spent, curve.best, strict=True) if best > 0), None)


def read_cell(ledger: Ledger, *, cell: Cell, currency: str, limit: float) -> list[SearchFigures]:
    """Every problem's, in the order of the problems. Raises LedgerError."""
    readings = {problem_id: _Reading(Standing(problem_id)) for problem_id in ledger.problem_keys()}
    for entry in ledger.events():
        reading = readings[entry.event.problem_id]
        reading.standing.add(entry.event, epoch=entry.epoch, seconds=entry.seconds)
        match entry.event:
            case Proposed(proposal=proposal):
                reading.proposals.append(proposal)
            case Sampled(proposal=proposal, candidate=candidate):
                reading.answers[proposal.id] = candidate.id
                reading.answered_at.setdefault(candidate.id, reading.standing.spend)
            case Unsampled(proposal=proposal):
                reading.refused = reading.refused or proposal.operator is Operator.DRAFT
            case Judged(verdict=verdict):
                reading.verdicts[verdict.candidate_id] = verdict
                reading.judged_at[verdict.candidate_id] = reading.standing.spend
            case Confirmed(verdict=verdict):
                reading.confirmations[verdict.candidate_id] = verdict
    return [reading.figures(cell, currency=currency, limit=limit) for reading in readings.values()]


@dataclass(slots=True)
class _Reading:
    """One search's events, sorted."""

    standing: Standing
    proposals: list[Proposal] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)  # candidate ids by proposal
    answered_at: dict[str, Spend] = field(default_factory=dict)  # by candidate id, as the following
    judged_at: dict[str, Spend] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    confirmations: dict[str, Verdict] = field(default_factory=dict)
    refused: bool = False  # a draft

    def figures(self, cell: Cell, *, currency: str, limit: float) -> SearchFigures:
        within = [v for id, v in self.verdicts.items() if self._spent(id, currency=currency) <= limit and v.passed]
        tested = [self.confirmations[v.candidate_id] for v in within if v.candidate_id in self.confirmations]
        refuted = {verdict.candidate_id for verdict in tested if not verdict.passed}
        best = max((v for v in tested or within if v.passed), key=lambda v: v.rank, default=None)
        standing = [] if best is None else [v for v in within if v.candidate_id not in refuted]
        return SearchFigures(
            cell=cell,
            problem_id=self.standing.problem_id,
            curves={
                name: self._curve(standing, best=best, currency=name) for name in {currency, "tokens", "gpu_seconds"}
            },
            solved=best is not None,
            confirmed=best is not None and bool(tested),
            speedup=best.speedup if best is not None and best.timed else None,
            num_refuted=len(refuted),
            spend=self.standing.spend,
            drafts=Drafts(drawn=tuple(self._drafts()), refused=self.refused),
            end=None if self.standing.ended is None else self.standing.ended.end,
        )  # fmt: skip

    def _spent(self, candidate_id: str, *, currency: str) -> float:
        at = self.answered_at if currency in WITH_ANSWERS else self.judged_at
        return float(getattr(at[candidate_id], currency))

    def _curve(self, standing: list[Verdict], *, best: Verdict | None, currency: str) -> Curve:
        """Of what passed and was not refuted. It ends at `best`, which is confirmed where anything was."""
        most = math.inf if best is None else _level(best)
        points = sorted(
            (
                self._spent(verdict.candidate_id, currency=currency),
                min(_level(self.confirmations.get(verdict.candidate_id, verdict)), most),
            )
            for verdict in standing
        )
        levels = itertools.accumulate((level for _, level in points), max)
        return Curve(spent=tuple(spent for spent, _ in points), best=tuple(levels))

    def _drafts(self) -> Iterator[Drawn | None]:
        for proposal in self.proposals:
            if proposal.operator is Operator.DRAFT:
                verdict = self.verdicts.get(self.answers.get(proposal.id, ""))
                yield None if verdict is None else Drawn.of(verdict)


def _level(verdict: Verdict) -> float:
    """The height of a curve at a verdict that passed."""
    return verdict.speedup if verdict.timed else UNTIMED
