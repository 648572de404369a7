"""End to end with nothing scripted but the answers: recorded completions through the real sandbox."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent import cli

pytestmark = pytest.mark.timeout(900)  # half a minute on two idle cores

ROOT = Path(cli.__file__).parents[1]
SOLVED_BY_FIX = "swiglu"
UNSOLVED = "cumulative_sum"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two problems."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    arguments = [
        "run",
        str(ROOT / "configs" / "recorded.yaml"),
        f"problems.path={ROOT / 'configs' / 'problems'}",
        f"problems.only=[{SOLVED_BY_FIX}, {UNSOLVED}]",
        f"sampler.path={ROOT / 'configs' / 'completions' / 'recorded.jsonl'}",
        f"run_dir={folder}",
        "ray.pool=serial",
        "judge.mode=interpret",
    ]
    assert cli.main(arguments) == 0
    return folder


def test_one_problem_is_solved_by_a_rule_after_a_failure_and_one_is_not(run: Path) -> None:
    report = (run / "report.md").read_text()
    assert re.search(rf"\| {SOLVED_BY_FIX} \| solved by fix \| not timed \|", report)
    assert re.search(rf"\| {UNSOLVED} \| (unsolved|unverified) \|  \|", report)
    assert "Nothing was timed" in report
    assert [path.stem for path in (run / "best").iterdir()] == [SOLVED_BY_FIX]


def test_the_best_kernel_is_judged_the_same_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = ROOT / "configs" / "problems" / f"{SOLVED_BY_FIX}.py"
    best = run / "best" / f"{SOLVED_BY_FIX}.py"
    assert cli.main(["judge", str(problem), str(best), "--json", "--mode", "interpret"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["status"] == "passed"
    assert verdict["performance"] is None
    assert verdict["correctness"]["checked_by"] == "interpret"


def test_its_plan_shows_a_launch_and_the_compiled_kernel(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = ROOT / "configs" / "problems" / f"{SOLVED_BY_FIX}.py"
    best = run / "best" / f"{SOLVED_BY_FIX}.py"
    assert cli.main(["trace", str(best), "--problem", str(problem)]) == 0
    shown = capsys.readouterr().out
    assert "launch swiglu_kernel" in shown
    assert re.search(r"sm_90, \d+ warps, [1-9]\d* registers", shown)


def test_pairs_get_a_line_each(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = str(ROOT / "configs" / "problems" / f"{SOLVED_BY_FIX}.py")
    best, empty = run / "best" / f"{SOLVED_BY_FIX}.py", run / "empty.py"
    empty.write_text("# nothing\n")
    pairs = run / "pairs.jsonl"
    lines = [{"id": path.stem, "problem": problem, "candidate": str(path)} for path in (best, empty)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = run / "verdicts.jsonl"
    arguments = ["judge", "--pairs", str(pairs), "--out", str(out), "--jobs", "1", "--mode", "interpret"]
    assert cli.main(arguments) == 0
    verdicts = {line["id"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert verdicts[SOLVED_BY_FIX]["status"] == "passed"
    assert verdicts["empty"]["status"] == "no_kernel"
    assert verdicts["empty"]["feedback"]
    assert {line["speedup"] for line in verdicts.values()} == {None}
    assert verdicts[SOLVED_BY_FIX]["stage_seconds"]["trace"] > 0
