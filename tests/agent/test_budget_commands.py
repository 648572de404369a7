"""Budgets through the command line: what `run` says of a limit, how `resume` raises one, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import cli, run_command
from agent.ledger import Ledger
from agent.limits import LimitReached
from agent.pool import Pool
from tests.agent.word_pool import PROBLEM, WordPool

NUM_ANSWERS = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two problems with more answers on record than any of these budgets asks for. Three tokens or so an answer."""
    (tmp_path / "problems").mkdir()
    for name in ("a", "b"):
        (tmp_path / "problems" / f"{name}.py").write_text(PROBLEM)
    lines = [
        {
            "id": f"{name}{n}",
            "problem": name,
            "operator": "draft",
            "completion": f"```python\n# {'GOOD' if n == 1 else 'BAD'} {name}{n}\nclass ModelNew:\n    pass\n```\n",
        }
        for name in ("a", "b")
        for n in range(NUM_ANSWERS)
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.yaml").write_text(
        "problems: problems\nsampler: {kind: recorded, path: answers.jsonl}\nray: {pool: serial}\nrun_dir: out\n"
        "strategy: {name: best_of_n, in_flight: 2}\nbudget: {samples: null}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_command, "open_pool", scripted_pool)
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)  # no GPU, on GPU machines too
    return tmp_path


def scripted_pool(config: object, *, tell: object) -> Pool:
    return WordPool()


def summary_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["event"] == "summary"
    return found


def run(*overrides: str) -> int:
    return cli.main(["run", "config.yaml", *overrides])


def kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "out" / "config.yaml").read_text())
    return found


def test_a_run_that_reaches_its_limit_ends_well_and_says_which(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run_budget.samples=5", "--json") == 0
    summary = summary_of(capsys)
    assert summary["outcome"] == "completed"
    assert summary["limits_reached"] == [{"currency": "samples", "limit": 5, "spent": 5, "in_flight": 0}]
    assert {problem["end"] for problem in summary["problems"]} == {"run_budget"}
    assert {problem["confirmed"] for problem in summary["problems"]} == {True}
    assert cli.main(["report", "out", "--html"]) == 0
    told = "limit reached: samples of the run 5; spent 5"
    assert f"L{told[1:]}." in (folder / "out" / "report.md").read_text()
    assert told in (folder / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("reached", "text"),
    [
        (LimitReached(currency="tokens", limit=50_000, spent=51_204),
         "tokens of the run 50,000; spent 51,204, of which 1,204 were in flight"),
        (LimitReached(currency="wall_seconds", limit=3600.0, spent=3655.25),
         "wall seconds of the run 3,600.0; spent 3,655.2, of which 55.25 went to what was in flight or confirmed"),
        (LimitReached(currency="usd", limit=2.5, spent=2.5), "US dollars of the run 2.5; spent 2.5"),
    ],
)  # fmt: skip
def test_a_limit_in_words(reached: LimitReached, text: str) -> None:
    assert reached.text == f"limit reached: {text}"


def test_a_problem_that_the_limit_left_without_a_turn_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run_budget.samples=1") == 0
    assert "\nb: nothing judged: the run's samples were used up\n" in capsys.readouterr().out


def test_what_was_in_flight_is_told_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run_budget.tokens=1") == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("limit reached: tokens of the run 1; spent ")]
    spent, over = (int(part.split()[0].replace(",", "")) for part in line.split("spent ")[1].split(", of which "))
    assert (spent - 1, line.endswith("were in flight")) == (over, True)


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_limit_of_the_run_that_was_passed_is_told_when_searches_end_by_another(
    folder: Path, capsys: pytest.CaptureFixture[str], json_lines: bool
) -> None:
    """Two answers to each problem are asked for at once, and have more tokens than the run may."""
    assert run("budget.samples=2", "run_budget.tokens=4", *(["--json"] if json_lines else [])) == 0
    if json_lines:
        summary = summary_of(capsys)
        assert {problem["end_detail"] for problem in summary["problems"]} == {"samples"}
        (reached,) = summary["limits_reached"]
        assert (reached["currency"], reached["spent"]) == ("tokens", summary["spend"]["tokens"])
        return
    told = "imit reached: tokens of the run 4; spent "
    assert f"\nl{told}" in capsys.readouterr().out
    assert f"\nL{told}" in (folder / "out" / "report.md").read_text()


def test_a_run_whose_budget_nothing_spends_ends_well_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No candidate is new to the judge after its first answers, so none of the verdicts allowed is used."""
    same = [
        {
            "id": f"{n}",
            "problem": "a",
            "operator": "draft",
            "completion": "```python\n# BAD\nclass ModelNew: ...\n```\n",
        }
        for n in range(210)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in same))
    assert run("budget.judged=5", "problems.only=[a]") == 0
    told = "1 of 1 searches ended with nothing of its budget spent by the last 200 answers: a"
    assert told in capsys.readouterr().out
    assert f"{told}." in (folder / "out" / "report.md").read_text()


@pytest.mark.parametrize("section", ["budget", "run_budget"])
def test_gpu_seconds_are_no_limit_where_nothing_takes_any(
    folder: Path, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    assert run(f"{section}.gpu_seconds=1") == 2
    told = capsys.readouterr().err
    assert f"config.yaml: {section}.gpu_seconds: judging is by judge.mode: interpret here, which takes no GPU" in told
    assert told.count("\n") == 1
    assert not (folder / "out").exists()


def test_an_experiment_in_gpu_seconds_needs_a_gpu(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "experiment.yaml").write_text(
        "base: config.yaml\narms: {a: {}}\nseeds: [0]\nbudget: {gpu_seconds: 1}\nrun_dir: compared\n"
    )
    assert cli.main(["compare", "experiment.yaml"]) == 2
    told = capsys.readouterr().err
    assert "experiment.yaml: budget.gpu_seconds: judging is by judge.mode: interpret here" in told
    assert told.count("\n") == 1


def test_what_problems_spent_beyond_their_limits_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("budget.tokens=1", "--json") == 0
    summary = summary_of(capsys)
    assert all(p["over_budget"] == {"tokens": p["spend"]["tokens"] - 1} for p in summary["problems"])
    assert summary["limits_reached"] == []
    assert "Limit passed: tokens of each problem 1; 2 of 2 spent more, " in (folder / "out" / "report.md").read_text()


def test_dollars_are_told_with_their_prices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ("prices.prompt_tokens_per_million=1e+6", "prices.completion_tokens_per_million=2e+6")
    assert run("run_budget.usd=100", *(price.replace("e+6", "000000") for price in prices), "--json") == 0
    summary = summary_of(capsys)
    spend = summary["spend"]
    assert spend["usd"] == spend["tokens"] + spend["completion_tokens"]
    assert summary["limits_reached"][0]["spent"] == spend["usd"] >= 100
    assert cli.main(["report", "out", "--html"]) == 0
    report = (folder / "out" / "report.md").read_text()
    assert "US dollars of the run 100" in report
    assert "- prices: prompt_tokens_per_million 1000000" in report
    assert "US dollars" in (folder / "out" / "report.html").read_text()


def test_without_prices_no_dollars_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run_budget.samples=2", "--json") == 0
    assert summary_of(capsys)["spend"]["usd"] is None
    report = (folder / "out" / "report.md").read_text()
    assert "US dollars" not in report
    assert "- prices" not in report


def test_a_resume_with_a_larger_limit_goes_on_and_later_ones_keep_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run_budget.samples=4") == 0
    assert cli.main(["resume", "out", "run_budget.samples=7", "budget.tokens=100000", "--json"]) == 0
    summary = summary_of(capsys)
    assert summary["spend"]["samples"] == 7
    assert summary["limits_reached"] == [{"currency": "samples", "limit": 7, "spent": 7, "in_flight": 0}]
    assert (kept(folder)["run_budget"]["samples"], kept(folder)["budget"]["tokens"]) == (7, 100000)
    assert cli.main(["resume", "out", "--json"]) == 0
    assert summary_of(capsys)["spend"]["samples"] == 7
    assert cli.main(["resume", "out", "run_budget.samples=null", "budget.samples=5", "--json"]) == 0
    summary = summary_of(capsys)
    assert (summary["spend"]["samples"], summary["limits_reached"]) == (10, [])
    with Ledger.open_read_only(folder / "out" / "ledger.sqlite") as ledger:
        query = "SELECT count(*), count(DISTINCT problem_id || proposal_id) FROM sampled"
        assert ledger._connection.execute(query).fetchone() == (10, 10)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("strategy.in_flight=4", "'strategy.in_flight=4': a run that is resumed keeps its configuration; allowed here"),
        ("prices.gpu_hour=2", "allowed here: budget.* and run_budget.*"),
        ("budget={samples: 9}", "allowed here: budget.* and run_budget.*"),
        ("budgets.samples=9", "allowed here: budget.* and run_budget.*"),
        ("run_budget.sample=9", "config.yaml: run_budget.sample: unknown key; known keys: samples, tokens"),
        ("run_budget.usd=9", "config.yaml: run_budget.usd: needs a price: set one of prices.gpu_hour"),
        ("run_budget.samples=3", "config.yaml: run_budget.samples: 3 is less than what the run has spent already, 4"),
        ("run_budget.tokens=5", "config.yaml: run_budget.tokens: 5 is less than what the run has spent already, "),
        ("budget.samples=1", "config.yaml: budget.samples: 1 is less than what problem a has spent already, 2"),
        ("run_budget.samples", "an override is written key=value"),
    ],
)
def test_a_resume_refuses_what_is_no_larger_budget_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], override: str, named: str
) -> None:
    assert run("run_budget.samples=4") == 0
    before = (folder / "out" / "config.yaml").read_text()
    capsys.readouterr()
    assert cli.main(["resume", "out", override]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert len(told.splitlines()) == 1
    assert (folder / "out" / "config.yaml").read_text() == before


def test_a_run_in_use_keeps_its_budget(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two openings in one process share a POSIX lock, so a ledger that is refused stands for the other process."""
    assert run("run_budget.samples=4") == 0
    before = (folder / "out" / "config.yaml").read_text()

    def refused(path: object) -> Ledger:
        from agent.ledger import LedgerInUse

        raise LedgerInUse("another process is writing this run")

    monkeypatch.setattr(Ledger, "open", refused)
    assert cli.main(["resume", "out", "run_budget.samples=9"]) == 2
    assert (folder / "out" / "config.yaml").read_text() == before
