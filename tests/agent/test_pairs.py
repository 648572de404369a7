"""Pairs of problem and candidate: mistakes are named by file and line, work is shared out, our faults stay ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.pairs import Pair, PairsError, judge_pairs, read_candidate, read_pairs
from agent.pool import Confirmation, PoolError
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Failure, Problem, Status, Verdict

PROBLEM = """
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x


def get_inputs():
    return [torch.rand(4)]


def get_init_inputs():
    return []
"""
ANSWER = "Here you are:\n```python\nclass ModelNew:\n    pass\n```\nEnjoy."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "problem.py").write_text(PROBLEM)
    (tmp_path / "candidate.py").write_text("class ModelNew:\n    pass\n")
    (tmp_path / "answer.md").write_text(ANSWER)
    return tmp_path


def pairs_file(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def good_line(folder: Path, id: str = "one") -> dict[str, str]:
    return {"id": id, "problem": str(folder / "problem.py"), "candidate": str(folder / "candidate.py")}


def test_a_python_file_is_taken_as_it_stands_and_an_answer_is_extracted(folder: Path) -> None:
    assert read_candidate(folder / "candidate.py", problem_id="p").source == "class ModelNew:\n    pass\n"
    assert read_candidate(folder / "answer.md", problem_id="p").source == "class ModelNew:\n    pass\n"


def test_an_answer_that_was_cut_off_is_marked(folder: Path) -> None:
    (folder / "cut.txt").write_text("```python\nclass ModelNew:\n    de")
    assert read_candidate(folder / "cut.txt", problem_id="p").truncated


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{not json", "not JSON"),
        ("[]", "id, problem, candidate"),
        ({"id": "x", "problem": "p.py"}, "candidate"),
        ({"id": 3, "problem": "p.py", "candidate": "c.py"}, "id"),
        ({"id": "x", "problem": "p.py", "candidate": "c.py", "more": 1}, "'more'; known: id, problem, candidate"),
        ({"id": "x", "problem": "no_such_problem.py", "candidate": "c.py"}, "no_such_problem.py"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(folder: Path, line: object, named: str) -> None:
    path = pairs_file(folder, good_line(folder), line)
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_candidate_and_a_repeated_id_are_mistakes(folder: Path) -> None:
    with pytest.raises(PairsError, match=r"pairs\.jsonl:1: .*gone\.py"):
        read_pairs(pairs_file(folder, good_line(folder) | {"candidate": str(folder / "gone.py")}))
    with pytest.raises(PairsError, match=r"pairs\.jsonl:2: id 'one'"):
        read_pairs(pairs_file(folder, good_line(folder), good_line(folder)))
    with pytest.raises(PairsError, match="holds no pair"):
        read_pairs(pairs_file(folder, ""))


class ScriptedPool:
    """Says `wrong_values` of everything but the candidates it fails on, and counts how many it holds at once."""

    def __init__(self, *, capacity: int, failing: frozenset[str] = frozenset()) -> None:
        self.capacity = capacity
        self.most_at_once = 0
        self._at_once = 0
        self._failing = failing

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0.001)
        self._at_once -= 1
        if candidate.source in self._failing:
            raise PoolError("the worker died")
        failure = Failure(error_class="E", message="m")
        return Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        raise AssertionError("pairs are judged once")

    async def close(self) -> None:
        return None


def test_every_pair_is_judged_once_and_a_fault_of_ours_is_told_apart(folder: Path) -> None:
    for number in range(20):
        (folder / f"c{number}.py").write_text(f"N = {number}\n")
    lines = [good_line(folder, id=str(n)) | {"candidate": str(folder / f"c{n}.py")} for n in range(20)]
    pairs = read_pairs(pairs_file(folder, *lines))
    pool = ScriptedPool(capacity=3, failing=frozenset({"N = 7\n"}))
    judged: list[str] = []
    faults: list[str] = []

    def on_verdict(pair: Pair, verdict: Verdict) -> None:
        assert verdict.candidate_id == pair.candidate.id
        judged.append(pair.id)

    def on_fault(pair: Pair, error: PoolError | ProblemFailed) -> None:
        faults.append(pair.id)

    asyncio.run(judge_pairs(pairs, pool=pool, on_verdict=on_verdict, on_fault=on_fault))
    assert faults == ["7"]
    assert sorted(judged) == sorted(str(n) for n in range(20) if n != 7)
    assert pool.most_at_once == 3
