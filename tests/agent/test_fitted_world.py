"""A world fitted from what a run has on record: played in a known one, it must come out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.events import Attempt, DurableEvent, Judged, Sampled
from agent.fitted_world import FitReport, fit_world
from agent.simulation import load_simulation
from sandbox.types import Observation, Operator, Proposal, Status
from strategies import STRATEGIES
from strategies.simulator import play
from strategies.world import World

STATED = load_simulation(Path(__file__).parents[2] / "configs/simulate.yaml", []).world
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
    with pytest.raises(ValueError, match="no answers"):
        fit_world([], stated=STATED)
