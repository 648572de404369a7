"""What the portfolio does with what things cost, and with the strategies that are its members."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sandbox.types import Operator, Status
from strategies import STRATEGIES, Portfolio
from strategies.operator_costs import STATED_COUNTS, OperatorCosts
from tests.strategies.test_contract import OPTIONS, observed

ALONE: dict[str, Any] = {"in_flight": 1, "stop_when_passed": False, "fix": False, "tune": 0}


def asked_for(*, repair_tokens: int | None, seed: int = 0, num_results: int = 150) -> Counter[Operator]:
    """By a portfolio of drafts and repairs at the same stated cost, where every answer fails alike."""
    portfolio = Portfolio(seed=seed, costs={"draft": 1.0, "repair": 1.0}, members=[], **ALONE)
    counts: Counter[Operator] = Counter()
    for number in range(num_results):
        proposal = portfolio.ask()
        assert proposal is not None
        counts[proposal.operator] += 1
        tokens = None if repair_tokens is None else {Operator.DRAFT: 100, Operator.REPAIR: repair_tokens}
        observation = observed(proposal, status=Status.WRONG_VALUES, text=f"program {number}")
        portfolio.tell(proposal, replace(observation, num_tokens=None if tokens is None else tokens[proposal.operator]))
    return counts


def test_what_takes_more_tokens_than_stated_is_asked_for_less() -> None:
    cheap, dear = asked_for(repair_tokens=10), asked_for(repair_tokens=1000)
    as_stated = asked_for(repair_tokens=None)
    assert dear[Operator.REPAIR] < as_stated[Operator.REPAIR] < cheap[Operator.REPAIR]
    assert dear[Operator.REPAIR] < cheap[Operator.REPAIR] / 2


def test_the_same_tokens_give_the_same_proposals() -> None:
    assert asked_for(repair_tokens=300, seed=3) == asked_for(repair_tokens=300, seed=3)


def test_costs_begin_as_stated_and_become_what_is_measured() -> None:
    costs = OperatorCosts({Operator.REPAIR: 1.5})
    costs.note(Operator.REPAIR, num_tokens=900)
    assert costs.of(Operator.REPAIR) == 1.5, "what a draft takes is not known yet"
    costs.note(Operator.DRAFT, num_tokens=100)
    costs.note(Operator.DRAFT, num_tokens=200)
    assert costs.of(Operator.REPAIR) == pytest.approx((STATED_COUNTS * 1.5 + 900 / 150) / (STATED_COUNTS + 1))
    for _ in range(1000):
        costs.note(Operator.REPAIR, num_tokens=450)
    assert costs.of(Operator.REPAIR) == pytest.approx(3.0, rel=0.01)
    assert costs.of(Operator.MERGE) == 1.0, "neither stated nor measured"


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"portfolio"}))
def test_every_other_strategy_can_be_a_member_and_ends_with_it(name: str) -> None:
    """Its one member goes on where the operators cannot, and hears that there are no more drafts."""
    member = {**OPTIONS[name], "name": name}
    portfolio = Portfolio(seed=0, costs={"draft": 1e6}, members=[member], **{**ALONE, "in_flight": 2})
    for number in range(20):
        proposal = portfolio.ask()
        assert proposal is not None
        portfolio.tell(proposal, observed(proposal, status=Status.WRONG_VALUES, text=f"program {number}"))
    for _ in range(200):
        if (proposal := portfolio.ask()) is None:
            break
        portfolio.tell(proposal, None)
    assert portfolio.finished
