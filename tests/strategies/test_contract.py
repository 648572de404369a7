"""What every registered strategy promises to the controller."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Finding,
    Observation,
    Operator,
    Performance,
    Proposal,
    Status,
    Verdict,
)
from strategies import STRATEGIES, Strategy
from strategies.base import FixesFirst

IN_FLIGHT = 4
INFORMED = {"in_flight": IN_FLIGHT, "stop_when_passed": False, "fix": True, "tune": 2}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "best_of_n": {"in_flight": IN_FLIGHT, "stop_when_passed": False, "fix": True},
    "repair": {"in_flight": IN_FLIGHT, "max_repairs": 2, "stop_when_passed": False, "fix": True, "tune": 2},
    "beam": {**INFORMED, "width": 2, "branch": 2, "depth": 2},
    "evolve": {
        **INFORMED,
        "islands": 3,
        "founders": 2,
        "migrate_every": 3,
        "draft_share": 0.2,
        "merge_share": 0.3,
    },
    "ab_mcts": {**INFORMED, "virtual_loss": 0.2},
    "portfolio": {
        **INFORMED,
        "costs": {"draft": 1.0, "repair": 1.5, "improve": 1.5, "merge": 2.0},
        "members": [
            {**INFORMED, "name": "ab_mcts", "virtual_loss": 0.2},
            {**INFORMED, "name": "beam", "width": 1, "branch": 2, "depth": 2},
            {"name": "best_of_n", "in_flight": IN_FLIGHT, "stop_when_passed": False, "fix": False},
            {**INFORMED, "name": "repair", "max_repairs": 2},
        ],
    },
}
SEEDS = range(10)
FINDING = Finding(rule="r", start=0, end=0, found="", instead="x", message="m")


@dataclass(frozen=True)
class Asked:
    answer: Proposal | None


@dataclass(frozen=True)
class Told:
    proposal: Proposal
    observation: Observation | None


Call = Asked | Told


def observed(
    proposal: Proposal,
    *,
    status: Status,
    text: str,
    truncated: bool = False,
    speedup: float | None = None,
    fixable: bool = False,
) -> Observation:
    """`speedup` None was not timed."""
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
        performance=None if speedup is None or not passed else timed(speedup),
        findings=(FINDING,) if fixable and not passed else (),
    )
    return Observation(candidate=candidate, verdict=verdict)


def timed(speedup: float) -> Performance:
    return Performance(
        runtime_us=1.0 / speedup,
        baseline_us={"eager": 1.0},
        against="eager",
        speedup=speedup,
        speedup_low=speedup,
        speedup_high=speedup,
        repetitions=1,
    )


def some_observation(proposal: Proposal, *, rng: random.Random) -> Observation:
    """Any status, often a pass, now and then cut off, empty, not timed, or a program that was seen before."""
    text = rng.choice(["", f"program {rng.randrange(10)}", f"new {proposal.id}", f"tl.dot {proposal.id}"])
    return observed(
        proposal,
        status=rng.choice([*Status, Status.PASSED, Status.PASSED]),
        text=text,
        truncated=rng.random() < 0.2,
        speedup=rng.choice([None, 0.5, 1.0, 2.0]),
        fixable=rng.random() < 0.3,
    )


def new_strategy(name: str, *, seed: int = 0, **options: object) -> Strategy:
    return STRATEGIES[name](seed=seed, **{**OPTIONS[name], **options})


def play(strategy: Strategy, *, rng: random.Random, num_calls: int = 200, unsampled: float = 0.0) -> Iterator[Call]:
    """Asks and tells in a random order; what is open is told out of order, with chance `unsampled` as None."""
    opened: list[Proposal] = []
    for _ in range(num_calls):
        if opened and rng.random() < 0.5:
            proposal = opened.pop(rng.randrange(len(opened)))
            observation = None if rng.random() < unsampled else some_observation(proposal, rng=rng)
            strategy.tell(proposal, observation)
            yield Told(proposal, observation)
        else:
            answer = strategy.ask()
            if answer is not None:
                opened.append(answer)
            elif not opened:
                assert strategy.finished, "nothing is open and nothing is proposed"
            assert len(opened) <= IN_FLIGHT
            yield Asked(answer)


def replay(strategy: Strategy, calls: list[Call]) -> None:
    for call in calls:
        match call:
            case Asked(answer=answer):
                assert strategy.ask() == answer
            case Told(proposal=proposal, observation=observation):
                strategy.tell(proposal, observation)


def test_every_strategy_is_under_contract() -> None:
    assert set(OPTIONS) == set(STRATEGIES)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_same_seed_and_calls_give_the_same_proposals_from_any_prefix(name: str, seed: int) -> None:
    calls = list(play(new_strategy(name, seed=seed), rng=random.Random(seed)))
    for cut in (0, 1, 7, 50, len(calls)):
        fresh = new_strategy(name, seed=seed)
        replay(fresh, calls[:cut])
        replay(fresh, calls[cut:])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_asks_that_give_nothing_change_nothing(name: str, seed: int) -> None:
    """The ledger does not record them, so a replay leaves them out."""
    calls = list(play(new_strategy(name, seed=seed), rng=random.Random(seed)))
    replay(new_strategy(name, seed=seed), [call for call in calls if call != Asked(None)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_goes_on_or_is_finished_when_some_of_it_cannot_be_sampled(name: str, seed: int) -> None:
    calls = list(play(new_strategy(name, seed=seed), rng=random.Random(seed), unsampled=0.2))
    replay(new_strategy(name, seed=seed), [call for call in calls if call != Asked(None)])


@settings(derandomize=True, max_examples=15, deadline=None, database=None)
@given(seed=st.integers(0, 2**64 - 1), in_flight=st.integers(1, IN_FLIGHT), unsampled=st.sampled_from([0.0, 0.05]))
@pytest.mark.parametrize("name", STRATEGIES)
def test_resumes_from_any_prefix_to_the_same_proposals(name: str, seed: int, in_flight: int, unsampled: float) -> None:
    """A kill loses what was asked and gave nothing; what is recorded is replayed, then both go on alike."""
    rng = random.Random(seed)
    first = new_strategy(name, seed=seed, in_flight=in_flight)
    calls = list(play(first, rng=rng, num_calls=rng.randrange(100), unsampled=unsampled))
    second = new_strategy(name, seed=seed, in_flight=in_flight)
    replay(second, [call for call in calls if call != Asked(None)])
    for _ in range(IN_FLIGHT + 1):
        assert first.ask() == second.ask()
    assert first.finished == second.finished


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"best_of_n", "repair"}))
def test_mends_by_rule_before_it_learns_of_a_failure(name: str) -> None:
    """The mended program is what goes on; the rules' own proposals have the broken one as their parent."""
    strategy = new_strategy(name, in_flight=1)
    draft = strategy.ask()
    assert draft is not None
    broken = observed(draft, status=Status.COMPILE_ERROR, text="broken", fixable=True)
    strategy.tell(draft, broken)
    fix = strategy.ask()
    assert fix is not None
    assert (fix.operator, fix.parents) == (Operator.FIX, (broken.candidate.id,))
    strategy.tell(fix, observed(fix, status=Status.WRONG_VALUES, text="mended"))
    parents = {parent for _ in range(30) for parent in told_next(strategy, status=Status.WRONG_VALUES).parents}
    assert broken.candidate.id not in parents


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"best_of_n", "repair"}))
def test_what_rules_cannot_mend_is_left_to_the_model(name: str) -> None:
    """Told None or the same program again, a strategy goes on with the failure as it was and does not fix it again."""
    for came_of_it in ("nothing", "the same"):
        strategy = new_strategy(name, in_flight=1)
        draft = strategy.ask()
        assert draft is not None
        broken = observed(draft, status=Status.COMPILE_ERROR, text="broken", fixable=True)
        strategy.tell(draft, broken)
        fix = strategy.ask()
        assert fix is not None
        strategy.tell(fix, None if came_of_it == "nothing" else broken)
        proposals = [told_next(strategy, status=Status.TRACE_ERROR) for _ in range(40)]
        assert Operator.FIX not in {proposal.operator for proposal in proposals}
        assert (Operator.REPAIR, (broken.candidate.id,)) in {(p.operator, p.parents) for p in proposals}


def told_next(strategy: Strategy, *, status: Status) -> Proposal:
    proposal = strategy.ask()
    assert proposal is not None
    strategy.tell(proposal, observed(proposal, status=status, text=proposal.id))
    return proposal


@pytest.mark.parametrize("name", STRATEGIES)
def test_proposal_ids_are_unique_and_parents_were_told(name: str) -> None:
    ids: set[str] = set()
    told: set[str] = set()
    for call in play(new_strategy(name), rng=random.Random(0), num_calls=500):
        match call:
            case Asked(answer=Proposal() as answer):
                assert answer.id not in ids
                assert set(answer.parents) <= told
                ids.add(answer.id)
            case Told(observation=Observation(candidate=candidate)):
                told.add(candidate.id)
    assert len(ids) > 100


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_who_says_that_a_fix_comes_next_proposes_it_next(name: str, seed: int) -> None:
    """A search without samples left asks on the strength of that word."""
    strategy = new_strategy(name, seed=seed)
    if not isinstance(strategy, FixesFirst):
        pytest.skip("proposes no fixes")
    rng, opened, num_fixes = random.Random(seed), list[Proposal](), 0
    for _ in range(200):
        word, room = strategy.fixes_next, len(opened) < IN_FLIGHT
        if (answer := strategy.ask()) is not None:
            assert word == (answer.operator is Operator.FIX)
            num_fixes += word
            opened.append(answer)
        else:
            assert not (word and room)
        if opened and rng.random() < 0.7:
            proposal = opened.pop(rng.randrange(len(opened)))
            strategy.tell(proposal, some_observation(proposal, rng=rng))
    assert num_fixes > 0


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("name", STRATEGIES)
def test_goes_on_after_any_status(name: str, status: Status) -> None:
    strategy = new_strategy(name, in_flight=1)
    for number in range(10):
        proposal = strategy.ask()
        assert proposal is not None
        assert not strategy.finished
        assert strategy.ask() is None, "one is open and one is allowed"
        strategy.tell(proposal, observed(proposal, status=status, text=f"program {number}"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_finishes_when_nothing_can_be_sampled(name: str) -> None:
    rng = random.Random(0)
    strategy = new_strategy(name)
    opened = [proposal for _ in range(IN_FLIGHT) if (proposal := strategy.ask()) is not None]
    strategy.tell(opened[0], observed(opened[0], status=Status.WRONG_VALUES, text="a"))
    opened = opened[1:]
    for _ in range(10 * IN_FLIGHT):
        while (proposal := strategy.ask()) is not None:
            opened.append(proposal)
        if not opened:
            break
        strategy.tell(opened.pop(rng.randrange(len(opened))), None)
    assert not opened
    assert strategy.finished


@pytest.mark.parametrize("name", STRATEGIES)
def test_stops_when_passed_if_asked_to(name: str) -> None:
    strategy = new_strategy(name, stop_when_passed=True)
    first, second = strategy.ask(), strategy.ask()
    assert first is not None
    assert second is not None
    strategy.tell(first, observed(first, status=Status.PASSED, text="a"))
    assert strategy.finished
    assert strategy.ask() is None
    strategy.tell(second, observed(second, status=Status.WRONG_VALUES, text="b"))
    assert strategy.ask() is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_refuses_to_be_told_of_what_is_not_open(name: str) -> None:
    strategy = new_strategy(name)
    proposal = strategy.ask()
    assert proposal is not None
    with pytest.raises(ValueError, match="not open"):
        strategy.tell(Proposal(id="other", operator=Operator.DRAFT), None)
    strategy.tell(proposal, None)
    with pytest.raises(ValueError, match="not open"):
        strategy.tell(proposal, None)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_proposal_costs_no_more_after_thousands(name: str) -> None:
    """In calls of functions, which a busy machine does not change."""
    rng, in_flight, opened = random.Random(0), 64, list[Proposal]()
    strategy = new_strategy(name, in_flight=in_flight)

    def go_on(num_results: int) -> int:
        num_calls = 0

        def count(frame: object, event: str, arg: object) -> None:
            nonlocal num_calls
            num_calls += event in ("call", "c_call")

        for _ in range(num_results):
            sys.setprofile(count)
            try:
                while (proposal := strategy.ask()) is not None:
                    opened.append(proposal)
            finally:
                sys.setprofile(None)
            proposal = opened.pop(rng.randrange(len(opened)))
            status = rng.choice([Status.PASSED, Status.WRONG_VALUES, Status.COMPILE_ERROR])
            observation = observed(proposal, status=status, text=proposal.id, speedup=rng.uniform(0.5, 2.0))
            sys.setprofile(count)
            try:
                strategy.tell(proposal, observation)
            finally:
                sys.setprofile(None)
        return num_calls

    go_on(300)
    early = go_on(100)
    go_on(2000)
    assert go_on(100) < 2 * early


@pytest.mark.parametrize("name", STRATEGIES)
def test_refuses_no_work_in_flight(name: str) -> None:
    with pytest.raises(ValueError, match="in_flight"):
        new_strategy(name, in_flight=0)
