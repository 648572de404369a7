"""A world fitted from what a run has on record: played in a known one, it must come out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli import main
from agent.events import Attempt, DurableEvent, Judged, Sampled
from agent.fitted_world import MIN_TRIALS, FitReport, NothingToFit, fit_world
from agent.sampler import SampleRequest, SamplerExhausted
from agent.simulation import load_simulation
from sandbox.types import Observation, Operator, Proposal, Spend, Status
from strategies import STRATEGIES
from strategies.simulator import play
from strategies.world import World
from tests.agent.scripted_run import Bench, ScriptedSampler, plan_of

CONFIG = Path(__file__).parents[2] / "configs/simulate.yaml"
STATED = load_simulation(CONFIG, []).world
KNOWN = replace(
    STATED,
    difficulty=replace(STATED.difficulty, alpha=1.0, beta=3.0, impossible=0.25),
    failures={Status.COMPILE_ERROR: 0.6, Status.WRONG_VALUES: 0.4},
    repairs=replace(STATED.repairs, worth={Status.COMPILE_ERROR: 4.0, Status.WRONG_VALUES: 0.5}, decay=0.6, keeps=0.7),
    fixes=replace(STATED.fixes, share={}),
    speeds=replace(STATED.speeds, typical=-0.3, between=0.5, num_styles=1, within=0.2, noise=0.0),
    improve=replace(STATED.improve, gain=0.1, keeps=0.6, spread=0.1, breaks=0.3, new_style=0.0),
)


class Recorded:
    """A strategy whose calls leave a ledger's events behind."""

    def __init__(self, name: str, *, seed: int, events: list[DurableEvent], **options: object) -> None:
        self._strategy = STRATEGIES[name](seed=seed, **options)
        self._events = events

    def ask(self) -> Proposal | None:
        return self._strategy.ask()

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        assert observation is not None
        self._strategy.tell(proposal, observation)
        candidate, attempt = observation.candidate, Attempt(epoch=1, number=1)
        sampled = Sampled(
            problem_id=candidate.problem_id,
            proposal=proposal,
            candidate=candidate,
            attempt=attempt,
            seed=0,
            finish_reason="stop",
            prompt_tokens=1000 if proposal.operator is Operator.DRAFT else 2000,
            completion_tokens=500,
            tokens_estimated=False,
            transcript=None,
        )
        judged = Judged(problem_id=candidate.problem_id, verdict=observation.verdict, attempt=attempt)
        self._events.extend((sampled, judged))

    @property
    def finished(self) -> bool:
        return self._strategy.finished


def record(world: World, *, name: str, num_problems: int, samples: int, **options: object) -> list[DurableEvent]:
    events: list[DurableEvent] = []
    for number in range(num_problems):
        play(
            world,
            problem_number=number,
            new_strategy=lambda seed: Recorded(
                name, seed=seed, events=events, in_flight=4, stop_when_passed=False, **options
            ),
            limits={"samples": samples},
            in_flight=4,
            seed=0,
        )
    return events


@pytest.fixture(scope="module")
def repaired() -> FitReport:
    events = record(KNOWN, name="repair", num_problems=120, samples=25, max_repairs=4, fix=False, tune=0)
    return fit_world(events, stated=STATED)


@pytest.fixture(scope="module")
def improved() -> FitReport:
    events = record(KNOWN, name="beam", num_problems=60, samples=25, width=2, branch=2, depth=3, fix=False, tune=0)
    return fit_world(events, stated=STATED)


def test_hardness_comes_out_again(repaired: FitReport) -> None:
    difficulty = repaired.world.difficulty
    assert difficulty.impossible == pytest.approx(0.25, abs=0.12)
    assert difficulty.alpha / (difficulty.alpha + difficulty.beta) == pytest.approx(0.25, abs=0.08)


def test_what_repairs_are_worth_comes_out_again_by_status(repaired: FitReport) -> None:
    """Though the failures of hard problems are repaired more often than those of easy ones."""
    repairs = repaired.world.repairs
    assert repairs.worth[Status.COMPILE_ERROR] == pytest.approx(4.0, rel=0.35)
    assert repairs.worth[Status.WRONG_VALUES] == pytest.approx(0.5, abs=0.3)
    assert repairs.decay == pytest.approx(0.6, abs=0.2)
    assert repairs.keeps == pytest.approx(0.7 + 0.3 * 0.52, abs=0.08), "a fresh failure may be of the same kind"
    assert repaired.world.failures[Status.COMPILE_ERROR] == pytest.approx(0.6, abs=0.06)


def test_speeds_and_improvements_come_out_again(improved: FitReport) -> None:
    speeds, improve = improved.world.speeds, improved.world.improve
    assert speeds.typical == pytest.approx(-0.3, abs=0.15)
    assert speeds.between == pytest.approx(0.5, abs=0.12)
    assert speeds.within == pytest.approx(0.2, abs=0.05)
    assert improve.breaks == pytest.approx(0.3, abs=0.06)
    assert improve.keeps == pytest.approx(0.6, abs=0.2)
    assert improve.gain == pytest.approx(0.1, abs=0.06)


def test_tokens_are_the_means_of_what_was_counted(improved: FitReport) -> None:
    costs = improved.world.costs
    assert [costs[o].tokens for o in (Operator.DRAFT, Operator.REPAIR, Operator.IMPROVE)] == [1500, 2500, 2500]
    assert costs[Operator.MERGE] == STATED.costs[Operator.MERGE]


def test_what_was_hardly_tried_stays_as_stated_and_is_named() -> None:
    events = record(KNOWN, name="best_of_n", num_problems=3, samples=4, fix=False)
    report = fit_world(events, stated=STATED)
    assert report.world.repairs.decay == STATED.repairs.decay
    assert report.world.improve == STATED.improve
    assert "repairs as stated: 0 on record" in report.lines
    assert "improve as stated: 0 timed pairs of 0 problems on record" in report.lines


def test_a_ledger_without_a_judged_draft_fits_nothing() -> None:
    with pytest.raises(NothingToFit, match="no draft of the run was judged"):
        fit_world([], stated=STATED)


def test_a_run_with_nothing_judged_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    bench.run(plan_of(samples=1), sampler=ScriptedSampler(nothing))
    bench.folder.write_config("problems: p")
    assert main(["simulate", str(CONFIG), "problems=2", "--fit", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"--fit {tmp_path}: nothing to fit: no draft of the run was judged" in told
    assert told.count("\n") == 1


def nothing(request: SampleRequest) -> str:
    raise SamplerExhausted("nothing is recorded")


def test_few_problems_do_not_tell_how_hard_problems_are() -> None:
    events = record(KNOWN, name="best_of_n", num_problems=MIN_TRIALS - 1, samples=30, fix=False)
    report = fit_world(events, stated=STATED)
    assert report.world.difficulty == STATED.difficulty
    assert report.lines[0].endswith("FITTED TO LITTLE: drafts of 9 problems were judged, 10 are needed for it")
    assert report.world.failures != STATED.failures, "270 drafts are enough for these"


def test_what_verdicts_take_of_the_gpu_comes_out_again() -> None:
    took = {Status.PASSED: 3.0, Status.WRONG_VALUES: 0.5, Status.COMPILE_ERROR: 0.0}
    events = [
        replace(event, verdict=replace(event.verdict, spend=Spend(gpu_seconds=took[event.verdict.status])))
        if isinstance(event, Judged)
        else event
        for event in record(KNOWN, name="best_of_n", num_problems=20, samples=20, fix=False)
    ]
    world = fit_world(events, stated=STATED).world
    assert {status: world.gpu_seconds_of(status) for status in took} == pytest.approx(took)
    assert world.gpu_seconds_of(Status.LAUNCH_ERROR) == STATED.failed_gpu_seconds[Status.LAUNCH_ERROR]
