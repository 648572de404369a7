"""What an experiment's file may say, and what is told of a mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.cli import main
from agent.config_section import ConfigError
from agent.experiment_config import Cell, first_difference, load_experiment, merged
from sandbox.types import Budget
from tests.agent.word_pool import PROBLEM

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "problem.py").write_text(PROBLEM, encoding="utf-8")
    (tmp_path / "answers.jsonl").write_text("", encoding="utf-8")
    base = {
        "problems": "problem.py",
        "sampler": {"kind": "http", "base_url": "http://localhost:1", "model": "m", "temperature": 0.8},
        "strategy": {"name": "repair", "in_flight": 3, "max_repairs": 1},
        "budget": {"samples": 7, "wall_seconds": 5.0},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    return tmp_path


def written(folder: Path, **changes: object) -> Path:
    raw = {
        "base": "base.yaml",
        "arms": {"drafts": {"strategy": {"name": "best_of_n"}}, "repair": {"strategy.fix": False}},
        "seeds": [3, 5],
        "budget": {"tokens": 1000},
        **changes,
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_arms_are_whole_configurations_that_differ_in_what_they_say(files: Path) -> None:
    arms = {
        "drafts": {"strategy": {"name": "best_of_n"}},
        "warm": {"sampler.temperature": 1.0, "strategy": {"in_flight": 9}},
    }
    experiment = load_experiment(written(files, arms=arms))
    drafts, warm = experiment.arms["drafts"], experiment.arms["warm"]
    assert (drafts.strategy.name, drafts.strategy.in_flight) == ("best_of_n", 8), "a name replaces the base's"
    assert (warm.strategy.name, warm.strategy.in_flight, warm.strategy_options()["max_repairs"]) == ("repair", 9, 1)
    assert [arm.sampler.model_dump()["temperature"] for arm in (drafts, warm)] == [0.8, 1.0]
    assert experiment.against == "drafts"


def test_every_cell_has_the_experiments_budget_and_no_other(files: Path) -> None:
    experiment = load_experiment(written(files))
    assert [str(cell) for cell in experiment.cells] == [
        "drafts/seed-3", "repair/seed-3", "drafts/seed-5", "repair/seed-5",
    ]  # fmt: skip
    for cell in experiment.cells:
        config = experiment.config_of(cell)
        assert config.budget.limits() == Budget(tokens=1000)
        assert config.seed == cell.seed
        assert not config.judge.racing, "a race would be against the best of any arm"
    assert experiment.base.seed == 0, "the judge's, whatever the cell"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"budget": {"tokens": 10, "samples": 2}}, "budget: needs exactly one currency of samples, tokens, judged"),
        ({"budget": {"wall_seconds": 9.0}}, "budget.wall_seconds: unknown key; known keys: samples, tokens, judged"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"seeds": []}, "seeds: is empty"),
        ({"against": "nobody"}, "against is nobody, which is none of the arms drafts, repair"),
        ({"arms": {"a/b": {}}}, "arm 'a/b' cannot be a folder's name"),
        ({"arms": {"a": {"judge.num_seeds": 1}}}, "arms.a.judge.num_seeds: an arm may not change it"),
        ({"arms": {"a": {"budget": {"tokens": 9}}}}, "arms.a.budget: an arm may not change it, all arms have it "
         "in common; allowed: strategy, sampler"),
        ({"arms": {"a": {"strategy.depth": 3}}}, "arms.a: strategy.depth: unknown key; known keys: name, in_flight"),
        ({"arms": {"a": {"strategy": {"name": "luck"}}}}, "arms.a: strategy.name: 'luck' is not allowed; allowed: "),
        ({"arms": {"a": {"strategy": 3}}}, "arms.a.strategy: holds keys and values, not 3"),
        ({"base": "none.yaml"}, "base: no file 'none.yaml', looked from "),
        ({"replicas": 3}, "replicas: unknown key; known keys: base, arms, seeds, budget, against"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_and_key(
    files: Path, changes: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(files, **changes)
    assert main(["compare", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kernelloop: {path}: ")
    assert told in line


def test_a_mistake_in_the_base_names_the_base(files: Path) -> None:
    (files / "base.yaml").write_text("problems: problem.py\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"base.yaml: sampler: is missing"):
        load_experiment(written(files))


def test_what_is_not_there_is_found_before_a_folder_is_made(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    arms = {"a": {"sampler": {"kind": "recorded", "path": "answers.jsonl"}}}
    assert main(["compare", str(written(files, arms=arms))]) == 2
    assert "answers.jsonl: holds no recorded completion" in capsys.readouterr().err
    assert not (files / "runs").exists()


def test_what_goes_on_with_it_is_told_with_its_overrides(files: Path) -> None:
    path = written(files)
    assert load_experiment(path, ["seeds=[1, 2]"]).resuming == f"kernelloop compare {path} 'seeds=[1, 2]' --resume"
    assert load_experiment(path, ["run_dir=here"]).resuming == f"kernelloop compare {path} run_dir=here"
    assert load_experiment(path, ["run_dir=here", "seeds=[1]"]).command == f"kernelloop compare {path} 'seeds=[1]'"


def test_what_engines_are_told_is_for_the_arms_that_have_engines(files: Path) -> None:
    vllm = {"kind": "vllm", "model": str(files)}
    base = {"problems": "problem.py", "sampler": vllm, "engine": {"num_engines": 2}}
    served = {"sampler": {"kind": "http", "base_url": "http://localhost:1", "model": "m"}}
    experiment = load_experiment(written(files, base=base, arms={"own": {"strategy.fix": False}, "served": served}))
    assert [config.engine.num_engines for config in experiment.arms.values()] == [2, None]


def test_the_first_difference_is_told_by_its_key() -> None:
    one = {"arms": {"a": {"fix": True}}, "seeds": [1, 2]}
    assert first_difference(one, {"arms": {"a": {"fix": True}}, "seeds": [1, 2]}) is None
    assert first_difference(one, {"arms": {"a": {"fix": False}}, "seeds": [1]}) == "arms.a.fix"
    assert first_difference(one, {"arms": {"a": {"fix": True}}, "seeds": [1]}) == "seeds"
    assert first_difference(one, {"arms": {"a": {"fix": True}, "b": {}}, "seeds": [1, 2]}) == "arms.b"


def test_a_section_is_laid_over_the_other_unless_it_names_its_kind() -> None:
    base = {"strategy": {"name": "repair", "fix": True}, "seed": 1}
    assert merged(base, changes={"strategy": {"fix": False}})["strategy"] == {"name": "repair", "fix": False}
    assert merged(base, changes={"strategy": {"name": "beam"}})["strategy"] == {"name": "beam"}
    assert base["strategy"] == {"name": "repair", "fix": True}


@pytest.mark.parametrize("name", ["experiment_recorded", "experiment_standin"])
def test_the_experiments_in_the_repository_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment = load_experiment(Path(f"configs/{name}.yaml"))
    assert Cell(arm="drafts", seed=0) in experiment.cells
