"""What a configuration file may say, and how its mistakes are told."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest

from agent.config import ConfigError, load_config
from agent.config_section import Section
from agent.strategy_config import AbMctsConfig, BeamConfig, BestOfNConfig, EvolveConfig, PortfolioConfig, RepairConfig
from strategies import STRATEGIES

HTTP = "sampler: {kind: http, base_url: 'http://localhost:8000/v1', model: m}\n"


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    (tmp_path / "problem.py").write_text("")
    (tmp_path / "answers.jsonl").write_text("")
    path = tmp_path / "run.yaml"
    path.write_text("problems: problem.py\n" + HTTP)
    return path


def test_any_other_strategy_may_be_a_member_of_a_portfolio(config_path: Path) -> None:
    members = ", ".join(f"{{name: {name}}}" for name in STRATEGIES if name != "portfolio")
    config = load_config(config_path, [f"strategy={{name: portfolio, members: [{members}]}}"])
    assert STRATEGIES["portfolio"](seed=0, **config.strategy_options()).ask() is not None


def test_defaults_fill_what_is_left_out(config_path: Path) -> None:
    config = load_config(config_path, [])
    assert config.strategy == RepairConfig(name="repair")
    assert config.budget.limits().samples == 16
    assert config.judge.settings(7, gpu_available=False).mode == "interpret"
    assert config.judge.settings(7, gpu_available=True).mode == "replay"


def test_a_written_configuration_reads_back_equal(config_path: Path) -> None:
    config = load_config(config_path, ["judge.timing_seconds=1.0e-5", "problems.only=[a]", "seed=3"])
    config_path.write_text(config.to_yaml())
    assert load_config(config_path, []) == config


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "bugdet=1",
            "bugdet: unknown key; known keys: problems, sampler, strategy, budget, run_budget, prices, judge, confirm",
        ),
        (
            "budget.sample=1",
            "budget.sample: unknown key; known keys: samples, tokens, judged, gpu_seconds, wall_seconds",
        ),
        (
            "sampler.temprature=1",
            "sampler.temprature: unknown key; known keys: kind, temperature, top_p, top_k, max_tokens",
        ),
        ("judge.trace.cpu=1", "judge.trace.cpu: unknown key; known keys: wall_seconds, cpu_seconds"),
        (
            "sampler.temperature=1e-2",
            "sampler.temperature: input should be a valid number, not '1e-2' (YAML",
        ),
        ("judge.min_kernel_share=.nan", "judge.min_kernel_share: "),
        (
            "budget.samples=1e2",
            "budget.samples: input should be a valid integer, not '1e2' (YAML reads that as text; write 100)",
        ),
        (
            "strategy={name: portfolio, members: [{name: beam, width: 0}]}",
            "strategy.members.0.width: input should be greater than or equal to 1, not 0",
        ),
        ("budget.samples=0", "budget.samples: input should be greater than or equal to 1, not 0"),
        ("budget.samples=true", "budget.samples: input should be a valid integer, not True"),
        ("budget.samples=1.5", "budget.samples: input should be a valid integer, not 1.5"),
        ("budget.samples=null", "budget: every limit is null: set at least one"),
        ("run_budget.sample=1", "run_budget.sample: unknown key; known keys: samples, tokens, judged, gpu_seconds"),
        ("run_budget.tokens=0", "run_budget.tokens: input should be greater than or equal to 1, not 0"),
        ("prices.gpu_hours=2", "prices.gpu_hours: unknown key; known keys: gpu_hour, machine_hour, prompt_tokens_per"),
        ("prices.gpu_hour=0", "prices.gpu_hour: input should be greater than 0, not 0"),
        ("budget.usd=1", "budget.usd: needs a price that a problem is charged: set one of prices.gpu_hour, prices.pro"),
        ("run_budget.usd=1", "run_budget.usd: needs a price: set one of prices.gpu_hour, prices.machine_hour, prices."),
        ("judge.policy=fast", "judge.policy: input should be 'triton' or 'any', not 'fast'"),
        (
            "strategy.name=best",
            "strategy.name: 'best' is not allowed; allowed: 'best_of_n', 'repair', 'beam', 'evolve'",
        ),
        ("allocator.weights={a: 1.0}", "allocator: weights need name: expected_gain"),
        ("allocator={name: expected_gain, weights: {a: 0.0}}", "allocator.weights.a: input should be greater than 0"),
        ("strategy={name: evolve, tune: true}", "strategy.tune: input should be a valid integer"),
        ("strategy={name: portfolio, costs: {repair: 1.0}}", "strategy.costs: lacks draft"),
        ("sampler={model: m}", "sampler: needs the key 'kind'"),
        ("judge.precision=[]", "judge.precision: is empty"),
        ("judge=3", "judge: holds keys and values, not 3"),
        ("sampler={kind: http, model: m}", "sampler.base_url: is missing"),
        ("problems.path=nowhere", "problems.path: nothing at 'nowhere', looked from"),
        ("sampler={kind: recorded, path: nowhere}", "sampler.path: nothing at 'nowhere', looked from"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_what_is_allowed(config_path: Path, override: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_path, [override])
    assert str(error.value).startswith(f"{config_path}: {line}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "budget.samples=three",
            "budget.samples: input should be a valid integer, not 'three'; allowed: whole numbers",
        ),
        ("budget.samples=three", "; allowed: whole numbers from 1, null"),
        ("prices.gpu_hour=1e0", "(YAML reads that as text; write 1.0); allowed: numbers above 0, null"),
        ("strategy={name: portfolio, members: [{name: beam, width: []}]}", "not []; allowed: whole numbers from 1"),
        ("sampler.top_p=high", "not 'high'; allowed: numbers above 0 to 1"),
        (
            "problems.only=easy",
            "problems.only: input should be a valid list, not 'easy'; allowed: lists, such as [a] or",
        ),
        (
            "allocator={name: expected_gain, weights: {a: b}}",
            "weights.a: input should be a valid number, not 'b'; allow",
        ),
        ("strategy.fix=1", "strategy.fix: input should be a valid boolean, not 1; allowed: true, false"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_the_kind_and_its_bounds(
    config_path: Path, override: str, line: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_path, [override])
    assert line in str(error.value)


def test_the_price_of_a_machine_is_the_runs_alone(config_path: Path) -> None:
    machine = "prices.machine_hour=3"
    assert load_config(config_path, [machine, "run_budget.usd=1"]).run_budget.limits().usd == 1
    with pytest.raises(ConfigError, match=r"budget\.usd: needs a price that a problem is charged"):
        load_config(config_path, [machine, "budget.usd=1"])


def test_a_limit_on_the_run_is_bound_enough(config_path: Path) -> None:
    config = load_config(config_path, ["budget.samples=null", "run_budget.tokens=5"])
    assert (config.budget.limits().samples, config.run_budget.limits().tokens) == (None, 5)


@pytest.mark.parametrize("override", ["seed", "=1", "a..b=1", "seed=[", "problems.path.x=1"])
def test_a_malformed_override_is_refused(config_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"override|not YAML|no keys"):
        load_config(config_path, [override])


def test_overrides_reach_into_sections_that_the_file_leaves_out(config_path: Path) -> None:
    config = load_config(config_path, ["strategy.in_flight=2", "budget.wall_seconds=60", "problems.levels=[1, 2]"])
    assert config.strategy == RepairConfig(name="repair", in_flight=2)
    assert config.budget.limits().wall_seconds == 60
    assert config.problems.levels == [1, 2]


@pytest.mark.parametrize("text", ["", "- a\n", "problems: [\n"])
def test_a_file_without_keys_is_refused(config_path: Path, text: str) -> None:
    config_path.write_text(text)
    with pytest.raises(ConfigError, match=str(config_path)):
        load_config(config_path, [])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml", [])


def test_paths_are_looked_up_from_here_then_from_the_file(
    config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    recorded = ["sampler={kind: recorded, path: answers.jsonl}"]
    config = load_config(config_path, recorded)
    assert config.problems.path == str(tmp_path / "problem.py")
    (here / "problem.py").write_text("")
    (here / "answers.jsonl").write_text("")
    config = load_config(config_path, recorded)
    assert config.problems.path == str(here / "problem.py")
    assert config.sampler.model_dump()["path"] == str(here / "answers.jsonl")


def test_a_glob_is_a_path(config_path: Path, tmp_path: Path) -> None:
    assert load_config(config_path, ["problems=./prob*.py"]).problems.path == str(tmp_path / "prob*.py")


def test_replay_without_a_gpu_is_refused(config_path: Path) -> None:
    config = load_config(config_path, ["judge.mode=replay"])
    with pytest.raises(ConfigError, match=r"judge\.mode"):
        config.judge.settings(0, gpu_available=False)


SECTIONS: dict[str, type[Section]] = {
    "best_of_n": BestOfNConfig,
    "repair": RepairConfig,
    "beam": BeamConfig,
    "evolve": EvolveConfig,
    "ab_mcts": AbMctsConfig,
    "portfolio": PortfolioConfig,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_section_holds_the_options_of_its_constructor(name: str) -> None:
    section = SECTIONS[name]
    assert get_args(section.model_fields["name"].annotation) == (name,)
    wanted = set(inspect.signature(STRATEGIES[name]).parameters) - {"seed"}
    assert wanted == set(section.model_fields) - {"name"}


def test_every_strategy_can_be_configured(config_path: Path) -> None:
    for name, strategy in STRATEGIES.items():
        config = load_config(config_path, [f"strategy.name={name}"])
        assert strategy(seed=config.seed, **config.strategy_options()).ask() is not None


def test_a_configuration_cannot_be_changed(config_path: Path) -> None:
    config = load_config(config_path, [])
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, "seed", 1)  # noqa: B010  (the type checker refuses the plain form, as it should)
