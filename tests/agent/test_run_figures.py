"""What a run's events add up to: flow by stage, curves, costs, failures, lineages."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agent.first_drafts import Drafts, Drawn
from agent.ledger import Ledger
from agent.run_figures import RunFigures, lineage, read_figures, stage_of
from agent.run_folder import RunFolder
from sandbox.types import Operator, Status, Verdict
from tests.scripted_run import ScriptedRun, failed, passed


def figures_of(folder: RunFolder) -> RunFigures:
    with Ledger.open_read_only(folder.ledger) as ledger:
        return read_figures(ledger)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two problems: one is solved by a repair at 4x and then drafted at 2x, the other never."""
    with ScriptedRun(tmp_path / "run", "gelu", "sums") as run:
        draft = run.add("gelu", "a", failed())
        run.add("gelu", "b", passed(speedup=4.0), operator=Operator.REPAIR, parents=(draft,))
        run.add("sums", "c", failed(Status.REJECTED, error_class="SyntaxError", stage_seconds={}))
        run.add("gelu", "d", passed(speedup=2.0))
        run.sample("gelu", "d")
        run.refuse("sums", "no more")
    return run.folder


@pytest.mark.parametrize(
    ("verdict", "stage"),
    [
        (failed(Status.NO_KERNEL, stage_seconds={}), "screen"),
        (failed(Status.REJECTED, stage_seconds={}), "screen"),
        (failed(Status.TIMEOUT, stage_seconds={"trace": 60.0}), "trace"),
        (failed(Status.REJECTED, stage_seconds={"trace": 1.0, "check": 0.1}), "check"),
        (failed(Status.WRONG_VALUES, stage_seconds={"trace": 1.0}), "run"),  # reused for an equal plan
        (failed(Status.TIMEOUT, stage_seconds={"trace": 1.0, "check": 0.1, "replay": 9.0}), "run"),
        (passed(), "passed"),
    ],
)
def test_a_verdict_ends_where_the_stages_say(verdict: Verdict, stage: str) -> None:
    assert stage_of(verdict) == stage


def test_the_flow_loses_at_each_stage_what_ended_there(folder: RunFolder) -> None:
    flow = {stage.stage: stage for stage in figures_of(folder).flow}
    assert [stage.num_entered for stage in flow.values()] == [4, 3, 2, 2, 2]
    assert flow["screen"].num_ended == {Status.REJECTED: 1}
    assert flow["trace"].num_ended == {Status.COMPILE_ERROR: 1}
    assert flow["passed"].num_ended == {Status.PASSED: 2}


def test_the_curve_rises_when_a_better_candidate_is_judged_and_counts_what_was_spent(folder: RunFolder) -> None:
    start, best, end = figures_of(folder).curve_by_verdicts
    assert (start.num_solved, start.mean_speedup) == (0, None)
    assert (best.num_solved, best.spend.samples, best.spend.tokens, best.spend.gpu_seconds) == (1, 2, 300, 0.5)
    assert best.mean_speedup == pytest.approx(math.sqrt(4.0 * 1.0))  # the unsolved problem counts as 1
    assert (end.num_solved, end.spend.samples, end.spend.judged, end.spend.gpu_seconds) == (1, 5, 4, 1.0)


def test_operators_are_told_apart_and_a_repeated_program_is_judged_once(folder: RunFolder) -> None:
    figures = figures_of(folder)
    draft, repair = figures.operators
    assert (draft.operator, draft.num_proposed, draft.num_answered, draft.num_unsampled) == (Operator.DRAFT, 5, 4, 1)
    assert (draft.num_judged, draft.num_passed, repair.num_judged, repair.num_passed) == (3, 1, 1, 1)
    assert (repair.prompt_tokens, repair.completion_tokens) == (100, 50)
    assert figures.num_repeated == 1


def test_a_program_drawn_twice_counts_twice_among_the_draws(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu", "sums") as run:
        run.add("gelu", "a", passed(speedup=2.0))
        run.add("gelu", "b", failed())
        run.sample("gelu", "a")
        run.sample("sums", "c")  # without a verdict yet
        run.refuse("sums", "no more")
    drafts = figures_of(run.folder).drafts
    assert drafts is not None
    twice, failure = Drawn(passed=True, speedup=2.0), Drawn(passed=False, speedup=None)
    assert drafts["gelu"] == Drafts(drawn=(twice, failure, twice), refused=False)
    assert drafts["sums"] == Drafts(drawn=(None, None), refused=True)


def test_how_late_a_judge_was_changes_nothing_of_what_tokens_brought(tmp_path: Path) -> None:
    """The first answer is judged last: it counts from when it came, and against GPU seconds from its verdict."""
    with ScriptedRun(tmp_path / "run", "a", "b") as run:
        slow = run.sample("a", "x = 1")
        run.add("b", "y = 1", passed(speedup=4.0))
        run.judge("a", slow, passed(speedup=2.0))
    figures = figures_of(run.folder)
    assert [(p.spend.tokens, p.num_solved) for p in figures.curve_by_answers] == [(0, 0), (150, 1), (300, 2), (300, 2)]
    assert [p.spend.gpu_seconds for p in figures.curve_by_verdicts] == [0.0, 0.5, 1.0, 1.0]
    means = [point.mean_speedup for point in figures.curve_by_answers]
    assert means == [None, *(pytest.approx(value) for value in (math.sqrt(2), math.sqrt(8), math.sqrt(8)))]


def test_answers_that_depend_on_others_are_no_draws(folder: RunFolder) -> None:
    assert figures_of(folder).drafts is None


def test_failures_are_classed_by_status_and_error_with_the_first_as_example(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "a", "b") as run:
        run.add("a", "1", failed(error_class="NameError"))
        first = run.add("a", "2", failed(message="first"))
        run.add("b", "3", failed(message="second"))
    common, rare = figures_of(run.folder).failures
    assert (common.error_class, common.count, common.num_problems) == ("CompilationError", 2, 2)
    assert (common.example.candidate_id, common.problem_id) == (first, "a")
    assert (rare.error_class, rare.count) == ("NameError", 1)


def test_a_lineage_goes_from_the_draft_to_the_candidate_and_is_bounded(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "a") as run:
        ids = [run.add("a", "x = 0", failed())]
        for number in range(1, 20):
            ids.append(run.add("a", f"x = {number}", failed(), operator=Operator.REPAIR, parents=(ids[-1],)))
    with Ledger.open_read_only(run.folder.ledger) as ledger:
        short = lineage(ledger, ledger.observation(ids[2]).candidate)
        long = lineage(ledger, ledger.observation(ids[-1]).candidate)
    assert [step.candidate.id for step in short] == ids[:3]
    assert [step.candidate.id for step in long] == ids[4:]


def test_seconds_go_on_over_a_resume(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "a") as run:
        run.add("a", "1", failed())  # at 3 s
    with ScriptedRun(tmp_path / "run", "a") as run:
        run._num_proposals = 1
        run.add("a", "2", passed())  # at 3 s again
    figures = figures_of(run.folder)
    assert figures.num_epochs == 2
    assert figures.curve_by_verdicts[-1].spend.wall_seconds == 6.0


def test_an_empty_ledger_has_figures_too(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "a") as run:
        pass
    figures = figures_of(run.folder)
    assert figures.failures == ()
    assert figures.curve_by_verdicts[-1].num_solved == 0
