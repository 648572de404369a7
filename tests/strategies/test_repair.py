"""Which failures are repaired, how often, and what comes after."""

from __future__ import annotations

import pytest

from sandbox.types import Candidate, Correctness, Failure, Observation, Operator, Proposal, Status, Verdict
from strategies import Repair


def tell(
    strategy: Repair, proposal: Proposal, *, text: str, status: Status = Status.WRONG_VALUES, truncated: bool = False
) -> str:
    """Tells of `text` as the program that `proposal` gave; returns its candidate id."""
    candidate = Candidate(
        problem_id="p", source=text, operator=proposal.operator, parent_ids=proposal.parents, truncated=truncated
    )
    passed = status is Status.PASSED
    correctness = Correctness(
        checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1
    )
    verdict = Verdict(
        candidate_id=candidate.id,
        status=status,
        failure=None if passed else Failure(error_class="E", message="m"),
        correctness=correctness if passed else None,
        plan_hash="h" if passed else None,
    )
    strategy.tell(proposal, Observation(candidate=candidate, verdict=verdict))
    return candidate.id


def ask(strategy: Repair) -> Proposal:
    proposal = strategy.ask()
    assert proposal is not None
    return proposal


def one_at_a_time(*, max_repairs: int = 2) -> Repair:
    return Repair(seed=0, in_flight=1, max_repairs=max_repairs, stop_when_passed=False)


def test_repairs_twice_then_drafts_anew() -> None:
    strategy = one_at_a_time()
    first = tell(strategy, ask(strategy), text="a")
    repair = ask(strategy)
    assert (repair.operator, repair.parents) == (Operator.REPAIR, (first,))
    second = tell(strategy, repair, text="b")
    repair = ask(strategy)
    assert (repair.operator, repair.parents) == (Operator.REPAIR, (second,))
    tell(strategy, repair, text="c")
    assert ask(strategy).operator is Operator.DRAFT


@pytest.mark.parametrize(
    ("text", "status", "truncated"),
    [
        ("a", Status.COMPILE_ERROR, True),
        ("a", Status.UNVERIFIED, False),
        ("a", Status.PASSED, False),
        ("", Status.NO_KERNEL, False),
    ],
)
def test_drafts_after_what_a_repair_cannot_mend(text: str, status: Status, truncated: bool) -> None:
    strategy = one_at_a_time()
    tell(strategy, ask(strategy), text=text, status=status, truncated=truncated)
    assert ask(strategy).operator is Operator.DRAFT


def test_a_repair_that_changes_nothing_ends_the_chain() -> None:
    strategy = one_at_a_time()
    tell(strategy, ask(strategy), text="a")
    tell(strategy, ask(strategy), text="a")
    assert ask(strategy).operator is Operator.DRAFT


def test_a_repair_that_cannot_be_sampled_ends_the_chain_only() -> None:
    strategy = one_at_a_time()
    tell(strategy, ask(strategy), text="a")
    strategy.tell(ask(strategy), None)
    assert ask(strategy).operator is Operator.DRAFT


def test_repairs_go_on_when_drafts_are_used_up() -> None:
    strategy = Repair(seed=0, in_flight=2, max_repairs=2, stop_when_passed=False)
    first, second = ask(strategy), ask(strategy)
    strategy.tell(second, None)
    assert not strategy.finished, "the first draft may still want a repair"
    tell(strategy, first, text="a")
    assert ask(strategy).operator is Operator.REPAIR


def test_no_repairs_when_none_are_allowed() -> None:
    strategy = one_at_a_time(max_repairs=0)
    tell(strategy, ask(strategy), text="a")
    assert ask(strategy).operator is Operator.DRAFT


def test_chains_in_flight_stay_apart() -> None:
    """Each of two chains gets its own two rounds, in whatever order results come."""
    strategy = Repair(seed=0, in_flight=2, max_repairs=2, stop_when_passed=False)
    opened = [ask(strategy), ask(strategy)]
    operators = [p.operator for p in opened]
    for number in range(5):
        tell(strategy, opened.pop(number % 2), text=f"program {number}")
        opened.append(ask(strategy))
        operators.append(opened[-1].operator)
    assert operators == [Operator.DRAFT] * 2 + [Operator.REPAIR] * 4 + [Operator.DRAFT]
