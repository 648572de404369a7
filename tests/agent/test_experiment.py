"""Experiments over scripted models and judges: equal budgets, the order of cells, what is shared, how they go on."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import compare_command
from agent.answer import seed_of
from agent.cli import main
from agent.compare_pages import write_pages
from agent.config import RunConfig
from agent.config_section import ConfigError
from agent.events import Outcome, Sampled
from agent.experiment import Ended, ExperimentRun
from agent.experiment_config import Cell
from agent.run_record import read_run
from agent.sampler import Completion, Sampler, SampleRequest, SamplerError
from sandbox.types import Status, Verdict
from tests.agent.experiment_lab import ARMS, TOKENS, Lab, new_lab, passing
from tests.agent.scripted_run import ScriptedPool, ScriptedSampler, own_program, program, verdict_on
from tests.agent.word_pool import PROBLEM


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr("agent.compare_command.probe", dict)  # which layers there are takes a second to find out
    return new_lab(tmp_path)


def test_every_cell_is_a_run_with_the_same_budget(lab: Lab) -> None:
    assert lab.run() == Ended(outcome=Outcome.COMPLETED, error=None)
    experiment = lab.experiment()
    for cell in experiment.cells:
        record = read_run(lab.folder(experiment).cell(cell))
        assert [result.spend.samples for result in record.results] == [4, 4, 4]
        assert record.config["seed"] == cell.seed
        assert record.config["budget"] == {**dict.fromkeys(record.config["budget"]), "samples": 4}
        assert record.folder.report.is_file()
    assert lab.num_pools == 1
    assert set(lab.samplers) == {"one", "other"}


def test_what_was_in_flight_at_the_limit_brings_nothing(lab: Lab) -> None:
    """Five are asked for at once, four are paid for, and the fifth is the right one."""
    arms = {"drafts": {"strategy": {"name": "best_of_n", "in_flight": 5}, "sampler.concurrency": 60}}
    experiment = lab.experiment(arms=arms, budget={"tokens": 4 * TOKENS})
    lab.answer = lambda r: program("GOOD = 1" if r.proposal.id.endswith("-4") else f"made = '{r.proposal.id}'")
    lab.pool = ScriptedPool(
        lambda c: verdict_on(c, status=Status.PASSED if "GOOD" in c.source else Status.WRONG_VALUES)
    )
    lab.run(experiment)
    (arm,) = lab.results(experiment).comparison.arms
    assert (arm.solved.value, arm.overrun) == (0.0, 6 * TOKENS)
    assert all(read_run(lab.folder(experiment).cell(cell)).num_solved == 3 for cell in experiment.cells)


def test_seeds_in_turn_and_the_arms_of_a_seed_side_by_side(lab: Lab) -> None:
    lab.delay_seconds = 0.01
    order: list[tuple[str, int]] = []
    names = [f"{operator}-{number}" for operator in ("draft", "repair") for number in range(9)]
    seeds = {seed_of(seed, f"p{n}", name): seed for seed in (0, 1) for n in range(3) for name in names}

    def answer(request: SampleRequest) -> str:
        order.append((request.proposal.id, seeds[request.seed]))
        return own_program(request)

    lab.answer = answer
    lab.run()
    assert [seed for _, seed in order] == sorted(seed for _, seed in order)
    assert {sampler.most_open for sampler in lab.samplers.values()} == {3}, "an even share of six each"
    first, second = (lab.folder(lab.experiment()).facts(Cell(arm=arm, seed=0)) for arm in ARMS)
    assert first["began"] < second["ended"]
    assert second["began"] < first["ended"]


def stop_at(lab: Lab, number: int) -> Callable[[ExperimentRun], None]:
    """Stops the experiment at an answer."""
    inner, count = lab.answer, iter(range(1, 10_000))

    def on_ready(run: ExperimentRun) -> None:
        def answer(request: SampleRequest) -> str:
            if next(count) == number:
                run.stop()
            return inner(request)

        lab.answer = answer

    return on_ready


@pytest.mark.parametrize("number", [1, 7, 31, 44])
def test_what_was_stopped_goes_on_without_sampling_twice(lab: Lab, number: int) -> None:
    lab.delay_seconds = 0.001
    assert lab.run(on_ready=stop_at(lab, number)).outcome is Outcome.STOPPED
    experiment = lab.experiment()
    before = {
        (experiment.arms[cell.arm].sampler.model_dump()["model"], entry.event.seed)
        for cell in experiment.cells
        if lab.folder(experiment).cell(cell).ledger.is_file()
        for entry in lab.entries(cell)
        if isinstance(entry.event, Sampled)
    }
    lab.answer = own_program
    assert lab.run().outcome is Outcome.COMPLETED
    again = {(model, request.seed) for model, sampler in lab.samplers.items() for request in sampler.requests}
    assert not before & again
    assert len(before | again) == 2 * 2 * 3 * 4
    for cell in experiment.cells:
        assert [r.spend.samples for r in read_run(lab.folder(experiment).cell(cell)).results] == [4, 4, 4]


def test_a_finished_experiment_starts_nothing_and_a_finished_cell_is_not_run_again(lab: Lab) -> None:
    lab.run()
    ledger = lab.folder(lab.experiment()).cell(Cell(arm="drafts", seed=0)).ledger.read_bytes()
    assert lab.run().outcome is Outcome.COMPLETED
    assert (lab.num_pools, lab.samplers) == (0, {})
    (lab.folder(lab.experiment()).cell(Cell(arm="repair", seed=1)).root / "finished.json").unlink()
    assert lab.run().outcome is Outcome.COMPLETED
    assert lab.requests() == []
    assert lab.folder(lab.experiment()).cell(Cell(arm="drafts", seed=0)).ledger.read_bytes() == ledger


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seeds": [0, 2]}, "seeds"),
        ({"budget": {"samples": 99}}, "budget.samples"),
        ({"budget": {"tokens": 4}}, "budget.samples"),
        ({"arms": {**ARMS, "repair": {**ARMS["repair"], "strategy.fix": False}}}, "arms.repair.strategy.fix"),
        ({"arms": {"drafts": ARMS["drafts"]}}, "arms.repair"),
    ],
)
def test_another_definition_cannot_go_on(lab: Lab, changes: dict[str, Any], key: str) -> None:
    lab.run()
    with pytest.raises(ConfigError, match=rf"trial.yaml: {re.escape(key)}: is not what the experiment in .* was begun"):
        lab.run(lab.experiment(**changes))


def test_how_results_are_looked_at_may_change(lab: Lab) -> None:
    lab.run()
    found = lab.results(lab.experiment(against="repair", resamples=300, published=True)).comparison
    assert [difference.arm for difference in found.differences if difference.measure == "solved"] == ["drafts"]


def test_a_folder_with_something_else_in_it_is_refused(lab: Lab) -> None:
    (lab.root / "experiment").mkdir()
    (lab.root / "experiment/notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not empty and holds no experiment"):
        lab.run()


def test_trouble_in_one_arm_stops_the_others_and_can_be_resumed(lab: Lab) -> None:
    class Fails(ScriptedSampler):
        async def sample(self, request: SampleRequest) -> Completion:
            raise SamplerError("the server\nis down")

    def open_engine(config: RunConfig) -> Sampler:
        other = config.sampler.model_dump()["model"] == "other"
        return Fails() if other else ScriptedSampler(delay_seconds=0.05)

    experiment = lab.experiment()
    ended = compare_command.carry_out(
        experiment, problems=lab.problems, folder=lab.folder(experiment), as_json=True,
        open_pool=lab._open_pool, open_engine=open_engine, on_ready=lambda run: None,
    )  # fmt: skip
    assert ended == Ended(outcome=Outcome.FAILED, error="repair/seed-0: the server is down")
    assert not lab.folder(experiment).finished(Cell(arm="drafts", seed=0))
    assert lab.run().outcome is Outcome.COMPLETED


def test_arms_that_come_by_the_same_program_have_it_judged_once_and_are_charged_alike(lab: Lab) -> None:
    arms = {name: {**arm, "strategy": ARMS["drafts"]["strategy"]} for name, arm in ARMS.items()}
    lab.answer = lambda request: program(f"made = '{request.problem.id} {request.proposal.id}'")  # with any seed
    lab.run(lab.experiment(arms=arms))
    assert len(lab.pool.candidates) == 3 * 4
    results = lab.results(lab.experiment(arms=arms))
    assert [arm.spend.gpu_seconds for arm in results.comparison.arms] == [2 * 3 * 0.5] * 2, (
        "of one plan, paid once a search"
    )
    assert sum(arm.asked.num for arm in results.comparison.arms) == 4 * 3 * 4
    assert sum(arm.asked.num_hits for arm in results.comparison.arms) == 3 * 3 * 4


def test_the_pages_say_what_came_of_it_and_need_nothing_else(lab: Lab) -> None:
    passing(lab)
    lab.run()
    experiment = lab.experiment(published=True)
    folder, results = lab.folder(experiment), lab.results(experiment)
    write_pages(results, folder=folder)
    markdown, page = folder.page.read_text(encoding="utf-8"), folder.html_page.read_text(encoding="utf-8")
    assert "| drafts (reference) | 33.3% (0.0% to 100.0%) | 1 1 | 1 |" in markdown
    assert "| repair | 66.7% (0.0% to 100.0%) | 2 2 | 2 |" in markdown
    assert "| repair | solved | +0.333 [+0.000, +1.000] | 1 | 0 | 1.000 |" in markdown
    assert "| drafts, p = 1.5 |" + 4 * " 33.3% (0.0% to 100.0%) |" in markdown
    assert "as judged, not confirmed" in markdown
    mean = re.search(r"\| drafts \| ([0-9.]+ \[[^|]*) \|", markdown[markdown.index("mean speedup, all") :])
    curve = markdown[markdown.index("Mean speedup against samples.") :].split("\n\n")[1].splitlines()
    assert mean is not None
    assert curve[-1].split(" | ")[1] == mean[1], "a curve ends at the figure of the arm"
    assert "repair: no pass@k; repair decides by what came before." in markdown
    assert f"kernelloop compare {experiment.path}" in markdown
    for text in (markdown, page):
        assert "Published, not measured here: model card of facebook/KernelLLM" in text
    assert not re.search(r"""(src|href)=["'](?!#)|url\(|@import|<script|https?://""", page)
    assert "default-src 'none'" in unescape(page)
    assert page.count("<section") == page.count("<h2") == len(re.findall(r'<li><a href="#', page))
    assert all(f'id="{target}"' in page for target in re.findall(r'href="#(\w+)"', page))
    assert page.count('class="mark"') == 10, "the published points whose k is told, in one chart of their own"


def test_published_points_are_shown_when_asked_for_alone(lab: Lab) -> None:
    passing(lab)
    lab.run()
    write_pages(lab.results(), folder=lab.folder(lab.experiment()))
    assert "KernelLLM" not in lab.folder(lab.experiment()).html_page.read_text(encoding="utf-8")


def test_the_rows_are_one_for_each_search(lab: Lab) -> None:
    passing(lab)
    lab.run()
    write_pages(lab.results(), folder=lab.folder(lab.experiment()))
    with lab.folder(lab.experiment()).rows.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    assert {row["solved"] for row in rows if row["problem"] == "p0"} == {"True"}
    assert {row["samples_at_first_pass"] for row in rows if row["problem"] == "p2"} == {""}


def test_only_seeds_that_all_arms_finished_are_compared(lab: Lab) -> None:
    lab.run()
    (lab.folder(lab.experiment()).cell(Cell(arm="repair", seed=1)).root / "finished.json").unlink()
    results = lab.results()
    assert results.comparison.seeds == (0,)
    assert (results.num_cells_finished, len(list(results.rows()))) == (3, 6)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An experiment on recorded answers, with judges that go by words."""
    (tmp_path / "p.py").write_text(PROBLEM, encoding="utf-8")
    lines = [
        {"id": text, "problem": "p", "operator": "draft", "completion": program(text)}
        for text in ("x = 0", "x = 1", "GOOD = 2", "x = 3")
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    raw = {
        "base": {"problems": "p.py", "sampler": {"kind": "recorded", "path": "answers.jsonl"}},
        "arms": {"drafts": {"strategy": {"name": "best_of_n"}}},
        "seeds": [0],
        "budget": {"samples": 4},
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    pool = ScriptedPool(judged_by_word)
    monkeypatch.setattr("agent.run_command.open_pool", lambda config, tell: pool)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "trial.yaml"


def judged_by_word(candidate: Any) -> Verdict:
    return verdict_on(candidate, status=Status.PASSED if "GOOD" in candidate.source else Status.WRONG_VALUES)


def test_the_command_ends_with_the_figures_and_resume_finds_the_newest(
    command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "trial.yaml", "--resume"]) == 2
    assert "no experiment with this definition under runs to resume" in capsys.readouterr().err
    assert main(["compare", "trial.yaml"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[1] == "starting Ray and the sandbox, some seconds ..."
    assert "drafts: solved 1.000 [1.000, 1.000], " in told
    (folder,) = (command.parent / "runs").iterdir()
    assert folder.name.endswith("-compare")
    assert main(["compare", "trial.yaml", "--resume", "--json"]) == 0
    *rows, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(row["arm"], row["problem"], row["solved"], row["samples"]) for row in rows] == [("drafts", "p", True, 4)]
    assert summary == {
        "event": "summary", "outcome": "completed", "error": None, "cells_finished": 1, "cells": 1, "problems": 1,
        "seeds": [0], "solved": {"drafts": 1.0},
    }  # fmt: skip
    assert main(["compare", "trial.yaml", "--resume", "seeds=[1]"]) == 2


def test_an_experiments_folder_is_no_run_and_its_runs_are_pointed_to(
    command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "trial.yaml", "run_dir=here"]) == 0
    capsys.readouterr()
    assert main(["report", "here"]) == 2
    assert "here: is no run folder: it has no config.yaml; the runs of an experiment are in its cells/" in (
        capsys.readouterr().err
    )
    assert main(["watch", "here/cells/drafts/seed-0"]) == 2
    assert "has no progress.json" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_the_users_mistake(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "trial.yaml", "run_dir=p.py"]) == 2
    assert f"trial.yaml: run_dir: cannot make a folder: {command.parent / 'p.py'}: " in capsys.readouterr().err


def test_an_override_changes_the_experiment_and_stands_in_what_reproduces_it(
    command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "trial.yaml", "budget.samples=2", "run_dir=here"]) == 0
    assert "kernelloop compare trial.yaml budget.samples=2\n" in Path("here/compare.md").read_text(encoding="utf-8")
    assert "drafts: solved 0.000" in capsys.readouterr().out
