"""The statistics of an experiment against enumeration, and what of a ledger counts for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.at_k import passing
from agent.cell_figures import SearchFigures, read_cell
from agent.comparison import Comparison, compare
from agent.curves import Curve, Replicas
from agent.events import EndReason
from agent.experiment_config import Cell
from agent.first_drafts import Drafts, Drawn
from agent.ledger import Ledger
from agent.resampling import sign_flip_p_value
from agent.verdict_cache import Asked
from sandbox.types import Operator, Spend
from tests.scripted_run import ScriptedRun, failed, passed

CELL = Cell(arm="a", seed=0)
TOKENS = 150  # of each answer in a scripted run


def search(
    arm: str, seed: int, problem_id: str, *, at: float | None = None, speedup: float | None = None,
    drafts: Sequence[bool | None] = (), refused: bool = False, end: EndReason = EndReason.BUDGET, tokens: int = 100,
) -> SearchFigures:  # fmt: skip
    """`at` is what had been spent at the first pass; None is unsolved."""
    value = speedup or 1.0
    curve = Curve(spent=() if at is None else (at,), best=() if at is None else (value,))
    drawn = {None: None, True: Drawn(passed=True, speedup=speedup), False: Drawn(passed=False, speedup=None)}
    return SearchFigures(
        cell=Cell(arm=arm, seed=seed), problem_id=problem_id, curves={"tokens": curve, "gpu_seconds": curve},
        solved=at is not None, confirmed=False, speedup=speedup if at is not None else None, num_refuted=0,
        spend=Spend(tokens=tokens), end=end,
        drafts=Drafts(drawn=tuple(drawn[draft] for draft in drafts), refused=refused),
    )  # fmt: skip


def compared(
    searches: Mapping[str, Sequence[SearchFigures]], *, seeds: Sequence[int] = (0, 1), limit: float = 100.0,
    recorded: Sequence[str] = (),
) -> Comparison:  # fmt: skip
    arms = list(searches)
    return compare(
        searches, seeds=seeds, currency="tokens", limit=limit, against=arms[0], resamples=500,
        why_no_draws={arm: None if arm.startswith("drafts") else "it repairs" for arm in arms},
        recorded=recorded, asked=dict.fromkeys(arms, Asked(num=4, num_hits=1)),
    )  # fmt: skip


def test_share_left_is_the_area_under_the_solved_curve() -> None:
    curve = Curve(spent=(10.0, 30.0), best=(0.0, 1.0))
    points = np.linspace(0.0, 100.0, 10_001)[:-1]
    assert curve.share_left(100.0) == pytest.approx(np.mean([curve.best_at(x) > 0 for x in points]), abs=1e-3)
    assert curve.share_left(20.0) == 0.0
    assert Curve(spent=(), best=()).share_left(5.0) == 0.0
    with pytest.raises(ValueError, match="budget above 0"):
        curve.share_left(0.0)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_share_solved_by_k_replicas_is_that_of_all_choices_of_k(k: int) -> None:
    solved, never = Curve(spent=(1.0,), best=(1.0,)), Curve(spent=(), best=())
    curves = {"x": (solved, never, never, solved), "y": (never, never, never, solved), "z": (never,) * 4}
    found = Replicas(curves=curves).solved_by_any(2.0, k=k)
    for problem, replicas in curves.items():
        choices = [any(c is solved for c in choice) for choice in itertools.combinations(replicas, k)]
        assert found[problem] == pytest.approx(sum(choices) / len(choices))
    with pytest.raises(ValueError, match="k must be 1 to 4"):
        Replicas(curves=curves).solved_by_any(2.0, k=5)


@pytest.mark.parametrize("differences", [[0.2, 0.4, -0.2, 0.0], [1.0], [0.5, 0.5, 0.5, 0.5, 0.5], [0.3, -0.3]])
def test_a_sign_flip_test_is_that_of_all_assignments(differences: list[float]) -> None:
    observed = abs(sum(differences))
    flips = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    exact = sum(total >= observed - 1e-12 for total in sums) / len(sums)
    assert sign_flip_p_value(differences, seed=0, resamples=10) == pytest.approx(exact)


def test_a_sign_flip_test_over_many_pairs_is_drawn_and_near_the_exact_one() -> None:
    ones = [1.0] * 14 + [-1.0] * 6  # 20 pairs: at least 14 of 20 or at most 6, by the binomial distribution
    exact = 2 * sum(math.comb(20, n) for n in range(14, 21)) / 2**20
    assert sign_flip_p_value(ones, seed=0, resamples=20_000) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p_value([0.0] * 3, seed=0, resamples=10) == 1.0
    with pytest.raises(ValueError, match="one at least"):
        sign_flip_p_value([], seed=0, resamples=10)


def test_seeds_are_averaged_within_problems_and_problems_are_what_varies() -> None:
    """Two problems, one always solved and one never: however many seeds, the interval stays as wide."""
    for seeds in (range(2), range(20)):
        searches = [search("drafts", s, p, at=at) for s in seeds for p, at in (("x", 50.0), ("y", None))]
        (arm,) = compared({"drafts": searches}, seeds=seeds).arms
        assert (arm.solved.value, arm.solved.low, arm.solved.high) == (0.5, 0.0, 1.0)
        assert arm.intervals["area of solved by tokens"].value == pytest.approx(0.25)
        assert arm.by_seed == (1,) * len(seeds)


def test_arms_are_paired_by_problem() -> None:
    base = [search("drafts", s, p, at=at) for s in (0, 1) for p, at in (("x", 40.0), ("y", None), ("z", None))]
    other = [
        search("repair", s, p, at=at)
        for s in (0, 1)
        for p, at in (("x", 40.0), ("y", 20.0 if s == 0 else None), ("z", None))
    ]
    found = {d.measure: d for d in compared({"drafts": base, "repair": other}).differences}
    solved = found["solved"]
    assert solved.interval.value == pytest.approx(0.5 / 3)
    assert (solved.num_better, solved.num_worse, solved.p_value) == (1, 0, 1.0)
    assert found["area of solved by tokens"].interval.value == pytest.approx(0.8 / 2 / 3)


def test_speedups_count_one_for_the_unsolved_and_beside_that_the_solved_alone() -> None:
    speedups = {("x", 0): 4.0, ("x", 1): 1.0, ("y", 0): 2.0, ("y", 1): None}
    searches = [search("a", s, p, at=None if v is None else 10.0, speedup=v) for (p, s), v in speedups.items()]
    found = compared({"a": searches})
    figures = found.arms[0].speedups
    assert found.timed
    assert figures is not None
    assert figures.over_all.value == pytest.approx((4.0 * 1.0 * 2.0 * 1.0) ** (1 / 4))
    assert figures.over_solved == pytest.approx((4.0 * 1.0 * 2.0) ** (1 / 3))
    assert figures.num_solved == 3
    assert {p: share.value for p, share in figures.faster.items()} == {1.0: 0.5, 1.2: 0.5, 1.5: 0.5, 2.0: 0.25}


def test_nothing_timed_is_no_speedup() -> None:
    found = compared({"a": [search("a", s, "x", at=10.0) for s in (0, 1)]})
    assert not found.timed
    assert found.arms[0].speedups is None
    assert not [name for name in found.arms[0].measures if "speedup" in name]


def test_as_many_first_drafts_of_every_search_are_the_draws() -> None:
    """A search by tokens has more answers where they are short. Those that every search has are counted."""
    searches = [
        search("drafts", 0, "x", at=1.0, drafts=(True, False, False, True, True)),
        search("drafts", 1, "x", drafts=(False, False, False)),
        search("drafts", 0, "y", drafts=(False, False, None, True)),
        search("drafts", 1, "y", at=1.0, drafts=(True, True, True, True)),
    ]
    arm = compared({"drafts": searches, "repair": [*searches]}).arms
    assert arm[0].draws is not None
    assert {p: (d.num, d.num_passed) for p, d in arm[0].draws.items()} == {"x": (4, 1), "y": (4, 2)}
    assert (arm[1].draws, arm[1].why_no_draws) == (None, "it repairs")


def test_a_short_search_costs_its_own_problem_answers_and_no_other() -> None:
    searches = [search("drafts", 0, f"p{n}", drafts=(True, False, False)) for n in range(9)]
    searches.append(search("drafts", 0, "short", drafts=(True, None, False)))
    searches.append(search("drafts", 0, "lost", drafts=(None, True, True)))
    found = compared({"drafts": searches}, seeds=(0,))
    arm = found.arms[0]
    assert arm.draws is not None
    assert {p: d.num for p, d in arm.draws.items()} == {**{f"p{n}": 3 for n in range(9)}, "short": 1, "lost": 0}
    estimates = found.at_k(arm, ks=(1, 2), estimate=passing)
    assert {k: at.num_problems for k, at in estimates.items()} == {1: 10, 2: 9, 3: 9}
    assert estimates[1].interval.value == pytest.approx((9 / 3 + 1) / 10)
    assert estimates[2].interval.value == pytest.approx(2 / 3)


def test_a_prompt_that_is_refused_is_a_failure_and_a_recording_that_ends_is_none() -> None:
    searches = [
        search("drafts", seed, problem, drafts=drafts, refused=refused)
        for seed in (0, 1)
        for problem, drafts, refused in (("x", (True, False, True), False), ("long", (None,), True))
    ]
    arm = compared({"drafts": searches}).arms[0]
    assert arm.draws is not None
    assert {p: (d.num, d.num_passed) for p, d in arm.draws.items()} == {"x": (6, 4), "long": (6, 0)}
    recorded = compared({"drafts": searches}, recorded=["drafts"]).arms[0]
    assert recorded.draws is not None
    assert {p: d.num for p, d in recorded.draws.items()} == {"x": 6, "long": 0}


def test_no_first_draft_that_was_judged_is_no_estimate_and_the_reason_says_so() -> None:
    arm = compared({"drafts": [search("drafts", s, "x", drafts=(None, True)) for s in (0, 1)]}).arms[0]
    assert (arm.draws, arm.why_no_draws) == (None, "of no problem did every search have its first draft judged")


def test_a_problem_that_cannot_be_judged_is_left_out_of_all_arms() -> None:
    searches = {
        "drafts": [search("drafts", s, p, at=1.0) for s in (0, 1) for p in "xy"],
        "repair": [
            search("repair", s, p, end=EndReason.INADMISSIBLE if (s, p) == (1, "y") else EndReason.BUDGET)
            for s in (0, 1)
            for p in "xy"
        ],
    }
    found = compared(searches)
    assert (found.problem_ids, found.left_out) == (("x",), ("y",))
    assert found.arms[0].solved.value == 1.0


def read(run: ScriptedRun, *, limit: float, currency: str = "tokens") -> SearchFigures:
    with Ledger.open_read_only(run.folder.ledger) as ledger:
        (found,) = read_cell(ledger, cell=CELL, currency=currency, limit=limit)
    return found


def test_what_came_within_the_budget_counts_and_nothing_else(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path, "x") as run:
        run.add("x", "a", failed())
        run.add("x", "b", passed())
        run.add("x", "c", passed())
    for limit, solved in ((2 * TOKENS - 1, False), (2 * TOKENS, True)):
        found = read(run, limit=limit)
        assert (found.solved, found.spend.tokens) == (solved, 3 * TOKENS)
        assert found.first_pass("tokens") == (2 * TOKENS if solved else None)
    assert read(run, limit=1, currency="judged").solved is False
    assert read(run, limit=2, currency="judged").curves["judged"].spent == (2.0,)


def test_an_answer_counts_from_when_it_came_however_late_it_was_judged(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path, "x") as run:
        first = run.sample("x", "a")
        run.add("x", "b", failed())
        run.judge("x", first, passed())
    assert read(run, limit=1000).first_pass("tokens") == TOKENS


def test_what_a_confirmation_refuted_is_unsolved_and_what_it_measured_stands(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path, "x") as run:
        fast = run.add("x", "fast", passed(speedup=3.0))
        slow = run.add("x", "slow", passed(speedup=2.0))
        run.end("x")
        run.confirm("x", fast, failed())
        run.confirm("x", slow, passed(speedup=1.5))
    found = read(run, limit=1000)
    assert (found.solved, found.confirmed, found.speedup, found.num_refuted) == (True, True, 1.5, 1)
    assert found.curves["tokens"].best == (1.5,)  # of `slow`, as confirmed
    alone = read(run, limit=TOKENS)
    assert (alone.solved, alone.speedup, alone.num_refuted) == (False, None, 1)


def test_all_figures_of_the_end_are_by_the_confirmation(tmp_path: Path) -> None:
    """Judged at 2.5x and confirmed at 0.97x: faster than PyTorch by no figure, while the draft counts as judged."""
    with ScriptedRun(tmp_path, "x") as run:
        fast = run.add("x", "fast", passed(speedup=2.5))
        run.add("x", "slower", passed(speedup=1.4))
        run.end("x")
        run.confirm("x", fast, passed(speedup=0.97))
    found = read(run, limit=100.0 * TOKENS)
    (arm,) = compared({"drafts": [found]}, seeds=(0,), limit=100.0 * TOKENS).arms
    assert arm.speedups is not None
    assert arm.speedups.over_all.value == pytest.approx(0.97)
    assert {p: share.value for p, share in arm.speedups.faster.items()} == dict.fromkeys((1.0, 1.2, 1.5, 2.0), 0.0)
    assert arm.intervals["area of log speedup by tokens"].value == 0.0
    assert arm.replicas["tokens"].log_speedup(100.0 * TOKENS)["x"] == pytest.approx(math.log(0.97))
    assert arm.draws is not None
    assert sorted(arm.draws["x"].speedups) == [1.4, 2.5]


def test_a_search_of_which_nothing_was_confirmed_solved_nothing(tmp_path: Path) -> None:
    """As in the report of its run: what was not put to the test does not stand in for what failed it."""
    with ScriptedRun(tmp_path, "x") as run:
        fast = run.add("x", "fast", passed(speedup=2.5))
        run.add("x", "slower", passed(speedup=1.4))
        run.end("x")
        run.confirm("x", fast, failed())
    found = read(run, limit=1000)
    assert (found.solved, found.confirmed, found.speedup, found.num_refuted) == (False, False, None, 1)
    assert found.first_pass("tokens") is None


def test_drafts_are_in_the_order_of_their_proposals(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path, "x") as run:
        first = run.add("x", "a", passed())
        run.add("x", "b", failed(), operator=Operator.REPAIR, parents=(first,))
        run.sample("x", "a")
        run.refuse("x", "too long")
        run.sample("x", "never judged")
    found = read(run, limit=1000)
    assert [None if drawn is None else drawn.passed for drawn in found.drafts.drawn] == [True, True, None, None]
    assert found.drafts.refused
