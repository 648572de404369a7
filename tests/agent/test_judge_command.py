"""The commands `judge`, `rejudge` and `trace` through the command line's own door: exit codes and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import cli, judge_command, rejudge
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict
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


def test_a_python_call_without_a_gpu_is_the_users_mistake(
    one_verdict: list[JudgeSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["judge", "problems/easy.py", "GOOD.py", "--python-call"]) == 2
    assert "--python-call: needs a GPU" in capsys.readouterr().err
    for option in ("--python-call", "--json"):
        assert cli.main(["judge", "--pairs", "x", "--out", "y", option]) == 2


def test_a_trace_tells_the_plan_and_what_does_its_work(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).parents[1] / "adversarial"
    assert (
        cli.main(["trace", str(here / "honest/own_operators.py"), "--problem", str(here / "problems/relu_rand.py")])
        == 0
    )
    told = capsys.readouterr().out
    assert "labels\n  triton, precision_ieee\n" in told
    assert "1  launch relu grid (7, 1, 1)" in told


def test_a_precision_that_is_allowed_lets_a_kernel_pass(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).parents[1] / "adversarial"
    pair = [str(here / "problems/matmul_small.py"), str(here / "honest/tf32_dot.py")]
    assert cli.main(["judge", *pair, "--mode", "interpret"]) == 3
    assert 'input_precision="ieee"' in capsys.readouterr().out
    assert cli.main(["judge", *pair, "--mode", "interpret", "--precision", "tf32"]) == 0
