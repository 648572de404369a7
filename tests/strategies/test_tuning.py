"""When strategies ask for tuning: of the fastest, a bounded number of points, beside the model's work."""

from __future__ import annotations

import pytest

from sandbox.types import Observation, Operator, Proposal, Status
from strategies import STRATEGIES, Strategy
from strategies.base import TunesFirst
from tests.strategies.test_contract import OPTIONS, observed

TUNERS = sorted(set(OPTIONS) - {"best_of_n"})


def new_strategy(name: str, *, in_flight: int = 1, tune: int = 2) -> Strategy:
    return STRATEGIES[name](seed=0, **{**OPTIONS[name], "in_flight": in_flight, "tune": tune})


def asked(strategy: Strategy) -> Proposal:
    proposal = strategy.ask()
    assert proposal is not None
    return proposal


def passing(proposal: Proposal, *, speedup: float | None, text: str | None = None) -> Observation:
    return observed(proposal, status=Status.PASSED, text=text or proposal.id, speedup=speedup)


@pytest.mark.parametrize("name", TUNERS)
def test_the_fastest_gets_its_points_and_no_more(name: str) -> None:
    strategy = new_strategy(name)
    draft = asked(strategy)
    first = passing(draft, speedup=1.0)
    strategy.tell(draft, first)
    for speedup in (None, 0.5):
        assert isinstance(strategy, TunesFirst) and strategy.tunes_next
        tune = asked(strategy)
        assert (tune.operator, tune.parents) == (Operator.TUNE, (first.candidate.id,))
        strategy.tell(tune, passing(tune, speedup=speedup))
    assert isinstance(strategy, TunesFirst) and not strategy.tunes_next
    assert asked(strategy).operator is not Operator.TUNE


@pytest.mark.parametrize("name", TUNERS)
def test_a_faster_program_is_tuned_in_its_turn(name: str) -> None:
    strategy = new_strategy(name, tune=1)
    origins: list[str] = []
    for speedup in (1.0, 0.5, 2.0):
        proposal = asked(strategy)
        while proposal.operator is Operator.TUNE:
            origins += proposal.parents
            strategy.tell(proposal, passing(proposal, speedup=0.1))
            proposal = asked(strategy)
        told = passing(proposal, speedup=speedup)
        strategy.tell(proposal, told)
    proposal = asked(strategy)
    assert (proposal.operator, proposal.parents) == (Operator.TUNE, (told.candidate.id,))
    assert len(origins) == 1, "the slower one is not tuned"


@pytest.mark.parametrize("name", TUNERS)
def test_what_was_not_timed_is_not_tuned(name: str) -> None:
    strategy = new_strategy(name)
    for _ in range(6):
        proposal = asked(strategy)
        assert proposal.operator is not Operator.TUNE
        strategy.tell(proposal, passing(proposal, speedup=None))


@pytest.mark.parametrize("name", TUNERS)
def test_an_origin_without_points_is_left(name: str) -> None:
    strategy = new_strategy(name, tune=5)
    draft = asked(strategy)
    strategy.tell(draft, passing(draft, speedup=1.0))
    tune = asked(strategy)
    assert tune.operator is Operator.TUNE
    strategy.tell(tune, None)
    assert asked(strategy).operator is not Operator.TUNE


@pytest.mark.parametrize("name", TUNERS)
def test_half_of_what_is_in_flight_is_left_to_the_model(name: str) -> None:
    strategy = new_strategy(name, in_flight=4, tune=20)
    draft = asked(strategy)
    strategy.tell(draft, passing(draft, speedup=1.0))
    operators = [asked(strategy).operator for _ in range(4)]
    assert operators.count(Operator.TUNE) == 2
    assert operators[:2] == [Operator.TUNE] * 2


@pytest.mark.parametrize("name", sorted(set(TUNERS) - {"repair"}))
def test_what_is_taken_further_is_the_tuned_text(name: str) -> None:
    """And whoever cannot be sampled from it is not asked for again."""
    strategy = new_strategy(name, tune=1)
    draft = asked(strategy)
    first = passing(draft, speedup=1.0)
    strategy.tell(draft, first)
    tune = asked(strategy)
    better = passing(tune, speedup=2.0)
    strategy.tell(tune, better)
    improved = []
    for number in range(40):
        proposal = asked(strategy)
        if proposal.operator is Operator.IMPROVE:
            improved.append(proposal.parents)
            strategy.tell(proposal, None)
        elif proposal.operator is Operator.TUNE:
            strategy.tell(proposal, None)
        else:
            strategy.tell(proposal, observed(proposal, status=Status.UNVERIFIED, text=f"other {number}"))
    assert set(improved) == {(better.candidate.id,)}
    assert len(improved) <= (2 if name == "portfolio" else 1), "once by each who asks: an operator's arm, a member"
