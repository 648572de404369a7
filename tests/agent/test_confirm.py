"""What becomes of the best of an ended search when it is judged once more. Models and judges are scripted."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.allocator import Uniform
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import Confirmed, EndReason, Event, Outcome, RunSummary, SearchEnded
from agent.evidence import read_bundle
from agent.ledger import Ledger
from agent.pool import Confirmation, PoolError
from agent.report import report_text, summary_json
from agent.run_folder import RunFolder
from agent.run_record import RunRecord, read_run
from agent.sampler import Completion, SampleRequest
from agent.tuning_points import choose_point
from sandbox.tracer import ProblemFailed
from sandbox.types import (
    Budget,
    Candidate,
    Correctness,
    Failure,
    Observation,
    Performance,
    Prices,
    Problem,
    Proposal,
    Status,
    Verdict,
)
from strategies import BestOfN
from tests.judge_settings import judge_settings

SEARCH_SEEDS, CONFIRM_SEEDS = (71177, 72277), (81188, 82288, 83388, 84488)
Figures = dict[int, float | None]  # by the number of the draft: speedup, or None where it fails


class NumberedSampler:
    """The program of the n-th draft says so."""

    async def sample(self, request: SampleRequest) -> Completion:
        text = f"```python\nclass ModelNew:\n    number = {request.ordinal}\n```"
        return Completion(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)

    async def close(self) -> None: ...


def number_of(candidate: Candidate) -> int:
    found = re.search(r"number = (\d+)", candidate.source)
    assert found is not None
    return int(found[1])


def verdict_on(candidate: Candidate, *, speedup: float | None, seeds: tuple[int, ...], timed: bool = True) -> Verdict:
    if speedup is None:
        failure = Failure(error_class="Wrong", message="a tenth is wrong")
        return Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure)
    performance = Performance(
        runtime_us=10.0,
        baseline_us={"eager": 10.0 * speedup, "compile": 10.0 * speedup + 1},
        against="eager",
        speedup=speedup,
        speedup_low=speedup - 0.1,
        speedup_high=speedup + 0.1,
        repetitions=20,
        conditions={"gpu": "scripted"},
        samples_us={"candidate": (9.0, 11.0), "eager": (20.0, 21.0)},
    )
    return Verdict(
        candidate_id=candidate.id,
        status=Status.PASSED,
        plan_hash=f"plan {number_of(candidate)}",
        correctness=Correctness(
            checked_by="replay", seeds=seeds, weights="none", max_error_ratio=0.5, rms_error_ratio=0.5
        ),
        performance=performance if timed else None,
    )


class TwoFacedPool:
    """Says one thing of the n-th draft while searching, and another when it confirms."""

    capacity = 2

    def __init__(self, searching: Figures, confirming: Figures, *, timed: bool = True) -> None:
        self._searching, self._confirming, self._timed = searching, confirming, timed
        self.tried: list[int] = []
        self.trouble: Exception | None = None

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        speedup = self._searching[number_of(candidate)]
        return verdict_on(candidate, speedup=speedup, seeds=SEARCH_SEEDS, timed=self._timed)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        self.tried.append(number_of(candidate))
        if self.trouble is not None:
            raise self.trouble
        speedup = self._confirming[number_of(candidate)]
        verdict = verdict_on(candidate, speedup=speedup, seeds=CONFIRM_SEEDS, timed=self._timed)
        return Confirmation(verdict=verdict, plan=None)

    async def close(self) -> None: ...


class Run:
    """A run of one problem in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self.folder.write_config("judge: {mode: replay, capability: 90}\n")
        self.folder.write_environment({"gpu": "scripted"})
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = self.events.append

    def go(self, pool: TwoFacedPool, *, samples: int = 4, most: int = 3) -> RunSummary:
        async def work() -> RunSummary:
            ledger = Ledger.open(self.folder.ledger)
            confirmer = Confirmer(pool=pool, ledger=ledger, folder=self.folder, most=most, settings=judge_settings())
            controller = Controller(
                plan_of(samples),
                sampler=NumberedSampler(),
                pool=pool,
                ledger=ledger,
                folder=self.folder,
                confirmer=confirmer,
                sampling_slots=1,
                on_event=self.on_event,
                clock=time.monotonic,
            )
            return await controller.run()

        return asyncio.run(work())

    @property
    def record(self) -> RunRecord:
        return read_run(self.folder)

    @property
    def best(self) -> str:
        return self.folder.best("p").read_text()


def plan_of(samples: int) -> RunPlan:
    def prompt(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
        return problem.id

    return RunPlan(
        problems=[Problem(id="p", source="# p", origin="test")],
        new_strategy=lambda seed: BestOfN(seed=seed, in_flight=1, stop_when_passed=False, fix=False),
        render=prompt,
        choose_point=choose_point,
        budget=Budget(samples=samples),
        run_budget=Budget(),
        prices=Prices(),
        allocator=Uniform(),
        seed=0,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


SEARCHING: Figures = {0: 1.5, 1: 3.0, 2: None, 3: 2.0, 4: 5.0}


def test_the_confirmed_figure_is_the_result_and_both_are_shown(run: Run) -> None:
    pool = TwoFacedPool(SEARCHING, {1: 2.8})
    assert run.go(pool).outcome is Outcome.COMPLETED
    assert pool.tried == [1]
    (result,) = run.record.results
    assert result.winner is not None and result.winner.speedup == 2.8
    text = report_text(run.record)
    assert "| p | solved by draft | 2.80x (2.70 to 2.90) against eager |" in text
    assert re.search(r"\| p \| \w{12} \| 3.00x \(2.90 to 3.10\) \| 2.80x \(2.70 to 2.90\) \|", text)
    (told,) = summary_json(run.record, outcome="", error=None)["problems"]
    assert (told["confirmed"], told["speedup"], told["against"]) == (True, 2.8, "eager")
    assert "confirmed: yes" in run.best and "2.800" in run.best and "number = 1" in run.best


def test_one_that_does_not_hold_is_shown_as_such_and_the_next_best_is_tried(run: Run) -> None:
    pool = TwoFacedPool(SEARCHING, {1: None, 3: 2.0})
    run.go(pool)
    assert pool.tried == [1, 3]
    text = report_text(run.record)
    assert "| p | solved by draft | 2.00x (1.90 to 2.10) against eager |" in text
    assert "**wrong_values**" in text
    assert re.search(r"- p: candidate \w{12}: wrong_values: Wrong: a tenth is wrong", text)
    assert "number = 3" in run.best


def test_when_nothing_holds_nothing_is_the_best_and_the_problem_is_not_solved(run: Run) -> None:
    pool = TwoFacedPool({0: 1.5, 1: 3.0, 2: 2.5, 3: 2.0}, dict.fromkeys(range(4)))
    run.go(pool)
    assert pool.tried == [1, 2, 3], "three and no more"
    assert not run.folder.best("p").exists()
    assert not run.folder.evidence("p").exists()
    record = run.record
    assert record.num_solved == 0
    assert "- p: not confirmed: wrong_values" in report_text(record)
    again = TwoFacedPool(SEARCHING, {0: 1.5})
    run.go(again)
    assert again.tried == [], "a resume tries no fourth"


@pytest.mark.parametrize(
    ("confirmed", "tried"),
    [
        (2.5, [1]),  # above what the next was measured at
        (1.95, [1]),  # below, but the intervals overlap
        (1.2, [1, 3]),
    ],
)
def test_one_that_turns_out_much_slower_has_to_beat_the_next(run: Run, confirmed: float, tried: list[int]) -> None:
    pool = TwoFacedPool(SEARCHING, {1: confirmed, 3: 1.9})
    run.go(pool)
    assert pool.tried == tried
    (result,) = run.record.results
    assert result.winner is not None and result.winner.speedup == max(confirmed, 1.9 if 3 in tried else 0.0)


def test_equal_plans_are_not_tried_one_after_the_other(run: Run) -> None:
    class SamePlans(TwoFacedPool):
        async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
            return replace(await super().judge(problem, candidate), plan_hash="the same")

    pool = SamePlans(dict.fromkeys(range(4), 2.0), dict.fromkeys(range(4)))
    run.go(pool)
    assert pool.tried == [0]


def test_without_times_the_first_that_is_correct_again_stands(run: Run) -> None:
    pool = TwoFacedPool(SEARCHING, {0: None, 1: 1.0}, timed=False)
    run.go(pool)
    assert pool.tried == [0, 1]
    assert "number = 1" in run.best


def test_it_can_be_left_out_and_then_the_report_says_so(run: Run) -> None:
    pool = TwoFacedPool(SEARCHING, {})
    run.go(pool, most=0)
    assert pool.tried == []
    assert "3.00x (2.90 to 3.10) against eager, not confirmed" in report_text(run.record)
    assert "confirmed: no" in run.best


def test_nothing_is_confirmed_twice_and_a_search_that_goes_on_is_confirmed_anew(run: Run) -> None:
    run.go(TwoFacedPool(SEARCHING, {1: 2.9}))
    again = TwoFacedPool(SEARCHING, {})
    run.go(again)
    assert again.tried == []
    larger = TwoFacedPool(SEARCHING, {4: 4.9})
    run.go(larger, samples=5)
    assert larger.tried == [4]
    (result,) = run.record.results
    assert result.winner is not None and result.winner.speedup == 4.9
    assert read_bundle(run.folder.evidence("p")).verdict.speedup == 4.9


def test_a_slower_confirmation_later_leaves_winner_and_evidence_alone(run: Run) -> None:
    run.go(TwoFacedPool(SEARCHING, {1: 2.9}))
    run.go(TwoFacedPool(SEARCHING, {4: 2.5}), samples=5)
    (result,) = run.record.results
    assert result.winner is not None and result.winner.speedup == 2.9
    assert read_bundle(run.folder.evidence("p")).verdict.speedup == 2.9


def test_our_trouble_is_not_the_candidates_and_a_resume_confirms(run: Run) -> None:
    broken = TwoFacedPool(SEARCHING, {})
    broken.trouble = PoolError("the GPU is gone")
    summary = run.go(broken)
    assert (summary.outcome, summary.error) == (Outcome.FAILED, "the GPU is gone")
    mended = TwoFacedPool(SEARCHING, {1: 2.8})
    assert run.go(mended).outcome is Outcome.COMPLETED
    assert mended.tried == [1]


def test_a_problem_that_does_not_stand_the_second_time_is_inadmissible(run: Run) -> None:
    pool = TwoFacedPool(SEARCHING, {})
    pool.trouble = ProblemFailed("its reference is not finite")
    assert run.go(pool).outcome is Outcome.COMPLETED
    ends = [event.end for event in run.events if isinstance(event, SearchEnded)]
    assert ends == [EndReason.BUDGET, EndReason.INADMISSIBLE]
    assert "not confirmed" in report_text(run.record)


def test_the_event_is_durable_before_the_best_is_written(run: Run) -> None:
    texts: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Confirmed):
            with Ledger.open_read_only(run.folder.ledger) as ledger:
                texts.extend(type(entry.event).__name__ for entry in ledger.events())
            assert "confirmed: no" in run.best

    run.on_event = watch
    run.go(TwoFacedPool(SEARCHING, {1: 2.8}))
    assert texts[-1] == "Confirmed"


def test_seeds_stand_in_the_evidence_and_not_beside_the_best(run: Run) -> None:
    run.go(TwoFacedPool(SEARCHING, {1: 2.8}))
    bundle = read_bundle(run.folder.evidence("p"))
    assert bundle.verdict.correctness is not None and bundle.verdict.correctness.seeds == CONFIRM_SEEDS
    assert bundle.searching is not None and bundle.searching.speedup == 3.0
    assert not [seed for seed in (*SEARCH_SEEDS, *CONFIRM_SEEDS) if str(seed) in run.best]
