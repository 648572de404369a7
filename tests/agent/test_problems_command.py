"""`kernelloop problems check`: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return {answer}
def get_inputs():
    return [torch.rand({shape})]
def get_init_inputs():
    return []
"""


def write(folder: Path, name: str, *, answer: str, shape: str = "64, 100") -> None:
    (folder / f"{name}.py").write_text(PROBLEM.format(answer=answer, shape=shape))


def test_inadmissible_problems_are_named_with_their_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "problems", tmp_path / "checks.jsonl"
    folder.mkdir()
    write(folder, "constant", answer="x * 0")
    write(folder, "fails", answer="x.reshape(7)")
    write(folder, "large", answer="torch.relu(x)", shape="1 << 15, 1 << 15")
    write(folder, "relu", answer="torch.relu(x)")
    assert main(["problems", "check", str(folder), "--mode", "interpret", "--json", "--out", str(out)]) == 2
    printed = capsys.readouterr()
    found = {line["problem_id"]: line for line in map(json.loads, printed.out.splitlines())}
    assert {name: line["admission"] for name, line in found.items()} == {
        "constant": "inadmissible", "fails": "inadmissible", "large": "unchecked", "relu": "admitted",
    }  # fmt: skip
    assert "null programs would pass (zeros" in found["constant"]["reason"]
    assert "cannot be described" in found["fails"]["reason"] and "needs a GPU" in found["large"]["reason"]
    assert found["relu"]["calibration"]["num_rejected"] == found["relu"]["calibration"]["num_nulls"]
    assert [json.loads(line)["problem_id"] for line in out.read_text().splitlines()] == list(found)
    assert "4 problems: 1 admitted, 2 inadmissible, 1 unchecked" in printed.err


def test_all_admitted_is_success_in_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.waiting.PLAIN_SECONDS", 0.01)
    write(tmp_path, "relu", answer="torch.relu(x)")
    assert main(["problems", "check", str(tmp_path / "relu.py"), "--mode", "interpret"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("checking 1 problem; ") and "\n1 problem: 1 admitted; " in printed.err
    assert "\nchecked 0 of 1 problem ... " in printed.err
    (line,) = printed.out.splitlines()
    assert line.startswith("relu: admitted; null programs rejected ") and "inputs given, outliers, given" in line


@pytest.mark.parametrize("arguments", [["--levels", "one"], ["--levels", "1"], ["--out", "no/where"]])
def test_mistakes_of_the_user_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    write(tmp_path, "relu", answer="torch.relu(x)")
    assert main(["problems", "check", str(tmp_path / "relu.py"), *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
