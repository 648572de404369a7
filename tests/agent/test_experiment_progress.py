"""A line for each arm, with what earlier processes did counted in."""

from __future__ import annotations

import io

from rich.console import Console

from agent.events import Attempt, Judged, NewBest, Outcome, RunEnded, RunStarted, SearchSummary
from agent.experiment_config import Cell
from agent.experiment_progress import ExperimentTally, LiveTable, PlainLines, on_event
from sandbox.types import Budget, Candidate, Operator, Prices, Spend, Status, Verdict
from tests.agent.clock import Clock
from tests.agent.scripted_run import verdict_on


def verdict() -> Verdict:
    candidate = Candidate(problem_id="p", source="x", operator=Operator.DRAFT)
    return verdict_on(candidate, status=Status.PASSED)


def before(problem_id: str, *, best: Verdict | None) -> SearchSummary:
    return SearchSummary(
        problem_id=problem_id,
        spend=Spend(tokens=1000, judged=3),
        num_by_status={},
        best=best,
        confirmed=False,
        end=None,
        end_detail=None,
    )


def started(*searches: SearchSummary) -> RunStarted:
    return RunStarted(budget=Budget(tokens=9), run_budget=Budget(), prices=Prices(), spend=Spend(), searches=searches)


def test_what_an_earlier_process_did_counts_and_a_problem_is_solved_once_a_seed() -> None:
    tally = ExperimentTally(["a", "b"], num_seeds=2, num_problems=3)
    tally.finish(Cell(arm="a", seed=0), [before("p", best=verdict()), before("q", best=None)])
    tally.add(Cell(arm="a", seed=1), started(before("p", best=verdict())))
    for _ in range(2):
        tally.add(Cell(arm="a", seed=1), NewBest(problem_id="p", verdict=verdict()))
    tally.add(
        Cell(arm="a", seed=1),
        Judged(problem_id="p", verdict=verdict(), attempt=Attempt(epoch=1, number=1)),
    )
    assert tally.rows() == [("a", "1/2", "3,000", "10", "2/6"), ("b", "0/2", "0", "0", "0/6")]


def test_a_cell_is_done_when_its_run_is_complete() -> None:
    tally, stream, clock = ExperimentTally(["a"], num_seeds=1, num_problems=1), io.StringIO(), Clock()
    tell = on_event(tally, PlainLines(tally, stream=stream, clock=clock))
    tell(Cell(arm="a", seed=0), started())
    for outcome in (Outcome.STOPPED, Outcome.COMPLETED):
        clock.now += 31.0
        tell(Cell(arm="a", seed=0), RunEnded(outcome=outcome, error=None, searches=(), wall_seconds=1.0))
        tell(Cell(arm="a", seed=0), NewBest(problem_id="p", verdict=verdict()))  # at once: not shown yet
    assert stream.getvalue().splitlines() == [
        "a: cells done 0/1 | tokens 0 | judged 0 | solved 0/1",
        "a: cells done 0/1 | tokens 0 | judged 0 | solved 0/1",
        "a: cells done 1/1 | tokens 0 | judged 0 | solved 1/1",
    ]


def test_a_terminal_shows_a_table_in_place() -> None:
    tally, file = ExperimentTally(["a"], num_seeds=1, num_problems=1), io.StringIO()
    with LiveTable(tally, console=Console(file=file, force_terminal=True, width=100)) as table:
        table.show(last=False)
    assert "cells done" in file.getvalue()
    assert "0/1" in file.getvalue()
