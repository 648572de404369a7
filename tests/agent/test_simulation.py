"""The simulator against what can be reckoned, and each strategy's claim in it: where it pays, and where it does not."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent.cli import main
from agent.simulation import Cell, SimulationConfig, load_simulation, played, simulate
from agent.strategy_config import AbMctsConfig, BestOfNConfig
from sandbox.types import Operator, Status
from strategies import AbMcts, BestOfN
from strategies.simulator import Trajectory, play
from strategies.world import World

CONFIG = Path(__file__).parents[2] / "configs/simulate.yaml"
STATED = load_simulation(CONFIG, ["currency=samples", "budgets=[4, 20]", "problems=70", "resamples=500"])
EVEN = dict.fromkeys(STATED.world.repairs.worth, 1.0)
# Repairs are worth four drafts each, and improvements keep what their parents have.
PAYS = replace(
    STATED.world,
    difficulty=replace(STATED.world.difficulty, alpha=1.0, beta=12.0, impossible=0.0),
    repairs=replace(STATED.world.repairs, worth=dict.fromkeys(EVEN, 4.0), decay=0.9),
    improve=replace(STATED.world.improve, gain=0.2, keeps=1.0, breaks=0.3),
)
# Repairs are worth a tenth of a draft, and improvements always break.
HURTS = replace(
    STATED.world,
    difficulty=replace(STATED.world.difficulty, impossible=0.0),
    repairs=replace(STATED.world.repairs, worth=dict.fromkeys(EVEN, 0.1)),
    fixes=replace(STATED.world.fixes, share={}),
    improve=replace(STATED.world.improve, breaks=1.0),
    merge=replace(STATED.world.merge, breaks=1.0),
)
# Half of all drafts pass, and what passes is soon faster.
EASY = replace(
    STATED.world,
    difficulty=replace(STATED.world.difficulty, alpha=3.0, beta=3.0, impossible=0.0),
    improve=replace(STATED.world.improve, gain=0.2, keeps=1.0, breaks=0.1),
)
CLEVER = ("repair", "beam", "evolve", "ab_mcts", "portfolio")


def cells(config: SimulationConfig) -> dict[tuple[str, float], Cell]:
    return {(cell.arm, cell.budget): cell for found in simulate(config) for cell in found}


@pytest.fixture(scope="module")
def pays() -> dict[tuple[str, float], Cell]:
    return cells(STATED.model_copy(update={"world": PAYS}))


@pytest.fixture(scope="module")
def hurts() -> dict[tuple[str, float], Cell]:
    return cells(STATED.model_copy(update={"world": HURTS}))


def drafts_only(world: World, *, samples: int, number: int = 0, in_flight: int = 4) -> Trajectory:
    return play(
        world,
        problem_number=number,
        new_strategy=lambda seed: BestOfN(seed=seed, in_flight=in_flight, stop_when_passed=False, fix=False),
        limits={"samples": samples},
        in_flight=in_flight,
        seed=0,
    )


@pytest.mark.parametrize("arm", CLEVER)
def test_solves_more_than_drafts_alone_where_repairs_pay(arm: str, pays: dict[tuple[str, float], Cell]) -> None:
    difference = pays[arm, 20].solved_difference
    assert difference is not None
    assert difference.low > 0


@pytest.mark.parametrize("arm", ["beam", "evolve", "ab_mcts", "portfolio"])
def test_gets_faster_kernels_than_drafts_alone_where_improving_pays(
    arm: str, pays: dict[tuple[str, float], Cell]
) -> None:
    difference = pays[arm, 20].log_speedup_difference
    assert difference is not None
    assert difference.low > 0


@pytest.mark.parametrize("arm", ["repair", "beam", "evolve"])
def test_loses_to_drafts_alone_where_neither_pays(arm: str, hurts: dict[tuple[str, float], Cell]) -> None:
    speedup, solved = hurts[arm, 20].log_speedup_difference, hurts[arm, 20].solved_difference
    assert speedup is not None
    assert solved is not None
    assert min(speedup.high, solved.high) < 0


def test_a_beams_first_generation_is_drafts_alone(pays: dict[tuple[str, float], Cell]) -> None:
    """As many samples as it drafts bring no more than best_of_n's, but for what rules mend."""
    difference = pays["beam", 4].log_speedup_difference
    assert difference is not None
    assert abs(difference.value) < 0.05


def test_a_portfolio_learns_what_does_not_pay(hurts: dict[tuple[str, float], Cell]) -> None:
    portfolio, repair = hurts["portfolio", 20].solved_difference, hurts["repair", 20].solved_difference
    assert portfolio is not None
    assert repair is not None
    assert repair.value < portfolio.value


def depths(world: World, *, samples: int, in_flight: int) -> list[float]:
    """Mean depths of `ab_mcts` on some problems."""
    options = AbMctsConfig(name="ab_mcts").model_dump(exclude={"name", "in_flight"})
    trajectories = [
        play(
            world,
            problem_number=number,
            new_strategy=lambda seed: AbMcts(seed=seed, in_flight=in_flight, **options),
            limits={"samples": samples},
            in_flight=in_flight,
            seed=1,
        )
        for number in range(6)
    ]
    assert {trajectory.most_open for trajectory in trajectories} == {in_flight}
    return [trajectory.mean_depth for trajectory in trajectories]


@pytest.mark.parametrize("samples", [400, 600])
@pytest.mark.parametrize("world", [STATED.world, PAYS, EASY], ids=["stated", "pays", "easy"])
def test_ab_mcts_goes_as_deep_with_a_hundred_in_flight_as_with_one(world: World, samples: int) -> None:
    """From four times as many samples as are in flight on. With twice as many, half of them are drafts that nothing was
    told before, and no tree can make up for that."""
    alone = sum(depths(world, samples=samples, in_flight=1))
    crowded = sum(depths(world, samples=samples, in_flight=100))
    assert alone > 6 * 1.5, "a tree that never goes deeper would prove nothing"
    assert abs(crowded - alone) <= (0.2 if samples < 600 else 0.15) * alone


def test_drafts_pass_as_often_as_their_problem_says() -> None:
    difficulty = replace(STATED.world.difficulty, alpha=5.0, beta=5.0, impossible=0.0)
    trajectory = drafts_only(replace(STATED.world, difficulty=difficulty), samples=1000)
    share = sum(step.status is Status.PASSED for step in trajectory.steps) / 1000
    assert share == pytest.approx(trajectory.problem.pass_chance, abs=4 * math.sqrt(0.25 / 1000))


def test_difficulties_are_those_that_are_stated() -> None:
    problems = [drafts_only(STATED.world, samples=1, number=number).problem for number in range(1000)]
    difficulty = STATED.world.difficulty
    possible = [problem.pass_chance for problem in problems if problem.pass_chance > 0]
    assert 1 - len(possible) / 1000 == pytest.approx(difficulty.impossible, abs=0.04)
    assert sum(possible) / len(possible) == pytest.approx(
        difficulty.alpha / (difficulty.alpha + difficulty.beta), abs=0.03
    )


def test_the_impossible_is_solved_by_nobody() -> None:
    world = replace(PAYS, difficulty=replace(PAYS.difficulty, impossible=1.0))
    config = STATED.model_copy(update={"world": world, "problems": 10, "budgets": [20.0]})
    assert {cell.solved.value for cell in cells(config).values()} == {0.0}


@pytest.mark.parametrize("arm", STATED.arms)
def test_a_budget_that_an_impossible_problem_does_not_spend_ends_and_says_so(
    arm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = ["world.difficulty.impossible=1.0", "world.failed_gpu_seconds={}", "world.fixes.share={}"]
    overrides = ["problems=2", "currency=gpu_seconds", "budgets=[10]", f"against={arm}", "resamples=50", *world]
    assert main(["simulate", str(CONFIG), *overrides, "--json"]) == 0
    captured = capsys.readouterr()
    told = f"{arm}: 2 of 2 searches ended with nothing of its budget spent by the last 200 answers (gpu_seconds)\n"
    assert told in captured.err
    assert {json.loads(line)["unspent"] for line in captured.out.splitlines()} == {2}


def test_a_failure_that_reaches_the_gpu_spends_its_time() -> None:
    impossible = replace(STATED.world.difficulty, impossible=1.0)
    costs = {Status.WRONG_VALUES: 0.5, Status.LAUNCH_ERROR: 0.25}
    world = replace(STATED.world, difficulty=impossible, failed_gpu_seconds=costs)
    config = STATED.model_copy(update={"world": world, "problems": 1, "currency": "gpu_seconds", "budgets": [10.0]})
    (trajectory,) = played(config, arm="best_of_n")
    spent = sum(costs.get(step.status, 0.0) for step in trajectory.steps)
    assert trajectory.steps[-1].used.gpu_seconds == pytest.approx(spent)
    assert spent >= 10.0
    assert not trajectory.unspent


def test_failures_come_as_often_as_they_are_weighed() -> None:
    world = replace(STATED.world, failures={Status.COMPILE_ERROR: 3.0, Status.WRONG_VALUES: 1.0})
    steps = drafts_only(world, samples=1000).steps
    counts = Counter(step.status for step in steps)
    assert counts[Status.COMPILE_ERROR] / counts[Status.WRONG_VALUES] == pytest.approx(3.0, abs=0.9)


@pytest.mark.parametrize("in_flight", [1, 7])
def test_a_budget_of_samples_is_kept_and_what_is_in_flight_is_bounded(in_flight: int) -> None:
    trajectory = drafts_only(STATED.world, samples=20, in_flight=in_flight)
    assert len(trajectory.steps) == 20
    assert trajectory.most_open == in_flight
    seconds = [step.used.wall_seconds for step in trajectory.steps]
    assert all(earlier <= later for earlier, later in pairwise(seconds))


def test_a_budget_of_tokens_is_overrun_by_what_is_in_flight_at_most() -> None:
    config = STATED.model_copy(update={"currency": "tokens", "budgets": [10_000.0], "problems": 20})
    for trajectory in played(config, arm="best_of_n"):
        tokens = trajectory.steps[-1].used.tokens
        assert 10_000 <= tokens < 10_000 + 4 * 2000
        assert trajectory.best_at("tokens", limit=10_000.0) <= trajectory.steps[-1].best_speedup


def test_more_in_flight_takes_less_time() -> None:
    alone = drafts_only(STATED.world, samples=40, in_flight=1)
    crowded = drafts_only(STATED.world, samples=40, in_flight=10)
    assert crowded.steps[-1].used.wall_seconds < alone.steps[-1].used.wall_seconds / 3


def test_strategies_share_the_drafts_of_a_problem() -> None:
    """The same draft by whoever asks, so that arms are compared on equal luck."""
    config = STATED.model_copy(update={"problems": 1, "budgets": [12.0]})
    first = [s.status for s in played(config, arm="best_of_n")[0].steps if s.operator is Operator.DRAFT]
    second = [s.status for s in played(config, arm="ab_mcts")[0].steps if s.operator is Operator.DRAFT]
    assert not Counter(second) - Counter(first)


def test_the_best_is_reported_by_its_true_speed() -> None:
    """The maximum of noisy figures is biased upward; what is counted is what it really runs at."""
    noisy = replace(
        PAYS,
        difficulty=replace(PAYS.difficulty, alpha=500.0, beta=1.0),
        speeds=replace(PAYS.speeds, typical=0.0, between=0.0, between_styles=0.0, within=0.0, noise=0.5),
    )
    assert drafts_only(noisy, samples=50).steps[-1].best_speedup == pytest.approx(1.0)


def test_equal_seeds_play_alike() -> None:
    config = STATED.model_copy(update={"problems": 5})
    assert played(config, arm="evolve") == played(config, arm="evolve")
    assert played(config, arm="evolve") != played(config.model_copy(update={"seed": 1}), arm="evolve")


def test_every_operator_takes_part() -> None:
    config = STATED.model_copy(update={"world": PAYS, "problems": 6, "budgets": [40.0], "tune": True})
    operators = {step.operator for arm in CLEVER for t in played(config, arm=arm) for step in t.steps}
    assert operators == set(Operator)


def test_the_command_prints_arms_by_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["problems=4", "budgets=[4000, 8000]", "resamples=50"]
    assert main(["simulate", str(CONFIG), *overrides]) == 0
    table = capsys.readouterr().out
    assert table.startswith("Simulated, not measured: 4 synthetic problems")
    assert table.count("\n| ") == 1 + 2 * len(STATED.arms)
    assert main(["simulate", str(CONFIG), *overrides, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["arm"] for line in lines} == set(STATED.arms)
    assert lines[0]["solved_difference"] is None
    assert len(lines[-1]["speedup_ratio"]) == 3


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("against=nobody", "simulate.yaml: against is nobody, which is none of the arms best_of_n"),
        ("world.repairs.worht={}", "world.repairs.worht: unknown key; known keys: worth, decay, keeps\n"),
        (
            "world.improve.gian=3",
            "world.improve.gian: unknown key; known keys: gain, spread, keeps, breaks",
        ),
        ("world.difficult={}", "world.difficult: unknown key; known keys: difficulty, failures, repairs, fixes"),
        ("world.costs.draft.token=3", "world.costs.draft.token: unknown key; known keys: tokens, seconds\n"),
        ("world.costs={}", "world: costs lacks draft"),
        ("world.speeds.num_styles=0", "world.speeds: speeds.num_styles must be 1 to"),
        ("world.failures={lost: 1.0}", "world.failures.lost: input should be 'no_kernel'"),
        ("world.failures.no_kernel=-1", "world: failures must"),
        ("arms.beam.width=0", "arms.beam.width: input should be greater than or equal to 1"),
        ("budgets=[]", "budgets: is empty"),
        ("arms.x={name: best}", "'best' is not allowed"),
    ],
)
def test_a_mistake_is_one_line(override: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(CONFIG), override]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_arms_are_configured_like_a_runs_strategy() -> None:
    assert STATED.arms["best_of_n"] == BestOfNConfig(name="best_of_n", in_flight=4)
