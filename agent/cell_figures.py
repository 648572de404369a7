"""What one cell of an experiment has on record for each problem, counted up to the budget and not beyond.

Tokens are known once an answer is there, so a search may overrun its limit by what was in flight, some strategies more
than others. So that arms are equal, only what came within the limit counts here. A program counts from when its answer
came (tokens, samples) or its verdict (judged, GPU seconds): how quickly the judge was free favours nobody.

Pure: reads a ledger, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.curves import Curve
from agent.events import Confirmed, EndReason, Judged, Proposed, Sampled
from agent.experiment_config import Cell
from agent.ledger import Ledger
from agent.search import Standing
from sandbox.types import Operator, Proposal, Spend, Verdict

WITH_ANSWERS = frozenset({"samples", "tokens"})  # currencies that an answer is paid in; the others a verdict
UNTIMED = 1.0  # what stands in a curve for a pass that was not timed: solved, and no speedup


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFigures:
    """One problem of one cell.

    `curves` are best-so-far by currency. `solved` says that a program passed within the budget and was not refuted by
    a confirmation; `speedup` is the confirmed one where it was confirmed, None where nothing was timed. `num_refuted`
    passed in the search and failed when judged again. `spend` is all that was spent, also beyond the limit. `drafts`
    are the verdicts on drafts in the order in which they were proposed; None where there is none.
    """

    cell: Cell
    problem_id: str
    curves: Mapping[str, Curve]
    solved: bool
    confirmed: bool
    speedup: float | None
    num_refuted: int
    spend: Spend
    drafts: tuple[Verdict | None, ...]
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

    def figures(self, cell: Cell, *, currency: str, limit: float) -> SearchFigures:
        within = [v for id, v in self.verdicts.items() if self._spent(id, currency=currency) <= limit]
        refuted = {id for id, verdict in self.confirmations.items() if not verdict.passed}
        passed = [verdict for verdict in within if verdict.passed and verdict.candidate_id not in refuted]
        best = self._best(passed)
        return SearchFigures(
            cell=cell,
            problem_id=self.standing.problem_id,
            curves={name: self._curve(passed, currency=name) for name in {currency, "tokens", "gpu_seconds"}},
            solved=bool(passed),
            confirmed=best is not None and best.candidate_id in self.confirmations,
            speedup=best.speedup if best is not None and best.timed else None,
            num_refuted=sum(verdict.passed and verdict.candidate_id in refuted for verdict in within),
            spend=self.standing.spend,
            drafts=tuple(self._drafts()),
            end=None if self.standing.ended is None else self.standing.ended.end,
        )  # fmt: skip

    def _spent(self, candidate_id: str, *, currency: str) -> float:
        at = self.answered_at if currency in WITH_ANSWERS else self.judged_at
        return float(getattr(at[candidate_id], currency))

    def _best(self, passed: list[Verdict]) -> Verdict | None:
        """What a run would report, had it ended at the limit: the confirmed one, else the best of the search."""
        winner = self.standing.confirmed
        if winner is not None and any(verdict.candidate_id == winner.candidate_id for verdict in passed):
            return winner
        return max(passed, key=lambda verdict: verdict.rank, default=None)

    def _curve(self, passed: list[Verdict], *, currency: str) -> Curve:
        points = sorted(
            (self._spent(v.candidate_id, currency=currency), v.speedup if v.timed else UNTIMED) for v in passed
        )
        best, reached = [], 0.0
        for _, speedup in points:
            reached = max(reached, speedup)
            best.append(reached)
        return Curve(spent=tuple(spent for spent, _ in points), best=tuple(best))

    def _drafts(self) -> Iterator[Verdict | None]:
        for proposal in self.proposals:
            if proposal.operator is Operator.DRAFT:
                candidate_id = self.answers.get(proposal.id)
                yield None if candidate_id is None else self.verdicts.get(candidate_id)
