"""The commands `judge`, `rejudge` and `trace` through the command line's own door: exit codes and what is shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from agent import cli, judge_command, rejudge
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict
from sandbox.zygote import SandboxError
from tests.agent.word_pool import PROBLEM, WordPool


@pytest.fixture
def one_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[JudgeSettings]:
    """Verdicts as the scripted pool gives them; what they were asked under."""
    seen: list[JudgeSettings] = []

    async def one_verdict(
        problem: Problem, candidate: Candidate, *, settings: JudgeSettings
    ) -> tuple[Verdict, bytes | None]:
        seen.append(settings)
        return await WordPool().judge(problem, candidate), None

    monkeypatch.setattr(judge_command, "one_verdict", one_verdict)
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)  # no GPU, on GPU machines too
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems/easy.py").write_text(PROBLEM)
    for name in ("GOOD", "BAD"):
        (tmp_path / f"{name}.py").write_text(f"# {name}\nclass ModelNew:\n    pass\n")
    return seen


@pytest.mark.parametrize(("name", "code"), [("GOOD", 0), ("BAD", 3)])
def test_judge_says_by_its_exit_code_whether_the_candidate_is_correct(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    assert cli.main(["judge", "problems/easy.py", f"{name}.py"]) == code
    status = {0: "passed", 3: "wrong_values"}[code]
    assert capsys.readouterr().out.startswith(f"{status}  easy: ")
    assert cli.main(["judge", "problems/easy.py", f"{name}.py", "--json"]) == code
    told = Verdict.from_json(json.loads(capsys.readouterr().out))
    assert told.status == status


def test_a_page_in_a_pipe_has_no_line_broken_or_filled_up(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Table("", "", box=None, show_header=False)
    rows.add_row("isolation", "layer, " * 60 + "last")
    rows.add_row("plan", "none")
    judge_command.show_page(rows)
    isolation, plan = capsys.readouterr().out.splitlines()
    assert isolation.endswith("layer, last") and plan.endswith("none")


@pytest.mark.parametrize("options", [[], ["--evidence", "proof"]])
def test_a_mode_that_cannot_be_is_told_by_the_name_that_was_typed(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--mode", "replay", *options]) == 2
    told = "kernelloop: --mode: replay needs a GPU and none is available; allowed here: auto, interpret\n"
    assert capsys.readouterr().err == told


def test_judge_leaves_evidence_that_can_be_judged_again(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["judge", "problems/easy.py", "GOOD.py", "--evidence", "proof"]
    assert cli.main(arguments) == 0
    monkeypatch.setattr(rejudge, "one_verdict", judge_command.one_verdict)
    assert cli.main(["rejudge", "proof"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "agrees with the record"
    assert len(one_verdict) == 2
    assert cli.main(arguments) == 2, "what is there is not written over"
    assert "--evidence proof: is there already" in capsys.readouterr().err
    assert len(one_verdict) == 2, "and nothing is judged before that is known"


@pytest.mark.parametrize("where", ["BAD.py/proof", "BAD.py/over/proof", "x" * 300])
def test_evidence_that_cannot_be_written_is_told_before_anything_is_judged(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--evidence", where]) == 2
    told = capsys.readouterr()
    assert told.out == "" and one_verdict == []
    (line,) = told.err.splitlines()
    assert line.startswith(f"kernelloop: --evidence {where}: cannot be made: ")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_verdict_is_told_even_where_its_evidence_cannot_be_written_any_more(
    one_verdict: list[JudgeSettings],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    judged = judge_command.one_verdict

    async def one_verdict_and_a_file_in_the_way(
        problem: Problem, candidate: Candidate, *, settings: JudgeSettings
    ) -> tuple[Verdict, bytes | None]:
        Path("deep").rmdir()
        Path("deep").write_text("")
        return await judged(problem, candidate, settings=settings)

    monkeypatch.setattr(judge_command, "one_verdict", one_verdict_and_a_file_in_the_way)
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--evidence", "deep/proof", *options]) == 1
    told = capsys.readouterr()
    assert told.out.startswith('{"candidate_id"' if options else "passed  easy: ")
    assert told.err.splitlines()[-1].startswith("kernelloop: deep/proof: cannot be written: ")


def test_evidence_leaves_nothing_behind_where_judging_fails(
    one_verdict: list[JudgeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_verdict(problem: Problem, candidate: Candidate, *, settings: JudgeSettings) -> None:
        raise SandboxError("the sandbox is gone")

    monkeypatch.setattr(judge_command, "one_verdict", no_verdict)
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--evidence", "proof"]) == 1
    assert not Path("proof").exists(), "or the next try would be refused"


def strictly(text: str) -> Any:
    """As a parser reads JSON that knows no more numbers than JSON has."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_values_that_are_no_numbers_are_told_in_strict_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.waiting.PLAIN_SECONDS", 0.01)
    here = Path(__file__).parents[1] / "adversarial"
    pair = [str(here / "problems/relu_rand.py"), str(here / "programs/nan_everywhere.py")]
    assert cli.main(["judge", *pair, "--mode", "interpret", "--json"]) == 3
    shown = capsys.readouterr()
    for stage in ("starting the sandbox and tracing", "judging"):
        assert f"\n{stage} ... " in shown.err, "who waits is told, and not where the JSON goes"
    told = strictly(shown.out)
    assert told["failure"]["mismatch"]["got"] == "nan"
    read = Verdict.from_json(told)
    assert read.failure is not None and read.failure.mismatch is not None
    assert math.isnan(read.failure.mismatch.got) and math.isfinite(read.failure.mismatch.expected)


def test_a_python_call_without_a_gpu_is_the_users_mistake(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--python-call"]) == 2
    assert "--python-call: needs a GPU" in capsys.readouterr().err
    for option in ("--python-call", "--json"):
        assert cli.main(["judge", "--pairs", "x", "--out", "y", option]) == 2


def test_a_trace_tells_the_plan_and_what_does_its_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.waiting.PLAIN_SECONDS", 0.01)
    here = Path(__file__).parents[1] / "adversarial"
    assert (
        cli.main(["trace", str(here / "honest/own_operators.py"), "--problem", str(here / "problems/relu_rand.py")])
        == 0
    )
    told, waited = capsys.readouterr()
    assert "\nstarting the sandbox and tracing ... " in waited
    assert "labels\n  triton, precision_ieee\n" in told
    assert "1  launch relu grid (7, 1, 1)" in told


def test_a_candidate_without_a_plan_is_told_by_the_exit_code_of_a_trace(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("BROKEN.py").write_text("class ModelNew(:\n")
    assert cli.main(["trace", "BROKEN.py", "--problem", "problems/easy.py"]) == 3
    assert capsys.readouterr().out.startswith("status rejected\n")


def test_a_precision_that_is_allowed_lets_a_kernel_pass(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).parents[1] / "adversarial"
    pair = [str(here / "problems/matmul_small.py"), str(here / "honest/tf32_dot.py")]
    assert cli.main(["judge", *pair, "--mode", "interpret"]) == 3
    assert 'input_precision="ieee"' in capsys.readouterr().out
    assert cli.main(["judge", *pair, "--mode", "interpret", "--precision", "tf32"]) == 0
