"""Which failures are repaired, how often, and what comes after."""

from __future__ import annotations

import pytest

from sandbox.types import Candidate, Correctness, Failure, Finding, Observation, Operator, Proposal, Status, Verdict
from strategies import BestOfN, Repair
from strategies.repair import MAX_FIXES

FINDING = Finding(rule="r", start=0, end=1, found="a", instead="b", message="b, not a")


def tell(
    strategy: Repair | BestOfN,
    proposal: Proposal,
    *,
    text: str,
    status: Status = Status.WRONG_VALUES,
    truncated: bool = False,
    fixable: bool = False,
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
        findings=(FINDING,) if fixable else (),
    )
    strategy.tell(proposal, Observation(candidate=candidate, verdict=verdict))
    return candidate.id


def ask(strategy: Repair | BestOfN) -> Proposal:
    proposal = strategy.ask()
    assert proposal is not None
    return proposal


def one_at_a_time(*, max_repairs: int = 2, fix: bool = False) -> Repair:
    return Repair(seed=0, in_flight=1, max_repairs=max_repairs, stop_when_passed=False, fix=fix, tune=0)


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
    strategy = Repair(seed=0, in_flight=2, max_repairs=2, stop_when_passed=False, fix=False, tune=0)
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
    strategy = Repair(seed=0, in_flight=2, max_repairs=2, stop_when_passed=False, fix=False, tune=0)
    opened = [ask(strategy), ask(strategy)]
    operators = [p.operator for p in opened]
    for number in range(5):
        tell(strategy, opened.pop(number % 2), text=f"program {number}")
        opened.append(ask(strategy))
        operators.append(opened[-1].operator)
    assert operators == [Operator.DRAFT] * 2 + [Operator.REPAIR] * 4 + [Operator.DRAFT]


def test_rules_come_before_the_model_and_the_model_goes_on_from_what_they_made() -> None:
    strategy = one_at_a_time(fix=True)
    first = tell(strategy, ask(strategy), text="a", fixable=True)
    assert strategy.fixes_next
    fix = ask(strategy)
    assert (fix.operator, fix.parents) == (Operator.FIX, (first,))
    second = tell(strategy, fix, text="b")
    assert not strategy.fixes_next
    repair = ask(strategy)
    assert (repair.operator, repair.parents) == (Operator.REPAIR, (second,))
    third = tell(strategy, repair, text="c", fixable=True)
    fix = ask(strategy)
    assert (fix.operator, fix.parents) == (Operator.FIX, (third,))


def test_fixes_count_as_no_repair_and_are_bounded() -> None:
    strategy = one_at_a_time(max_repairs=1, fix=True)
    operators = []
    for number in range(2 * MAX_FIXES + 4):
        proposal = ask(strategy)
        operators.append(proposal.operator)
        tell(strategy, proposal, text=f"program {number}", fixable=True)
    fixes = [Operator.FIX] * MAX_FIXES
    assert operators == [Operator.DRAFT, *fixes, Operator.REPAIR, *fixes, Operator.DRAFT, Operator.FIX]


def test_a_fix_that_changes_nothing_leaves_the_failure_to_the_model() -> None:
    strategy = one_at_a_time(fix=True)
    first = tell(strategy, ask(strategy), text="a", fixable=True)
    tell(strategy, ask(strategy), text="a", fixable=True)
    repair = ask(strategy)
    assert (repair.operator, repair.parents) == (Operator.REPAIR, (first,))


@pytest.mark.parametrize("status", [Status.PASSED, Status.UNVERIFIED])
def test_a_fix_that_cannot_be_mended_further_ends_the_chain(status: Status) -> None:
    strategy = one_at_a_time(fix=True)
    tell(strategy, ask(strategy), text="a", fixable=True)
    tell(strategy, ask(strategy), text="b", status=status)
    assert ask(strategy).operator is Operator.DRAFT


@pytest.mark.parametrize("truncated", [False, True])
def test_without_the_option_or_of_a_cut_off_answer_nothing_is_fixed(truncated: bool) -> None:
    strategy = one_at_a_time(fix=truncated)
    tell(strategy, ask(strategy), text="a", truncated=truncated, fixable=True)
    assert ask(strategy).operator is (Operator.DRAFT if truncated else Operator.REPAIR)


def test_best_of_n_fixes_only_if_asked_to_and_never_repairs() -> None:
    for fix, expected in ((False, Operator.DRAFT), (True, Operator.FIX)):
        strategy = BestOfN(seed=0, in_flight=1, stop_when_passed=False, fix=fix)
        tell(strategy, ask(strategy), text="a", fixable=True)
        second = ask(strategy)
        assert second.operator is expected
        tell(strategy, second, text="b")
        assert ask(strategy).operator is Operator.DRAFT
