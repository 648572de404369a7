"""What a model got wrong becomes a repair towards the nearest verified answer, and never of a held-out problem."""

from __future__ import annotations

import pytest

from sandbox.types import Operator, Status
from standin.attempts import answers_by_name, repairs_of
from standin.evaluation import Sample
from standin.examples import Example


def example(seed: int, answer: str, *, split: str = "train", kind: str = "draft") -> Example:
    return Example(kind=kind, seed=seed, split=split, family="norm", problem=f"problem {seed // 10}", answer=answer)


def sample(problem: str, source: str, *, status: Status = Status.WRONG_VALUES, truncated: bool = False) -> Sample:
    return Sample(
        problem=problem, operator=Operator.DRAFT, number=0, status=status, truncated=truncated, prompt_tokens=1,
        completion_tokens=1, finish_reason="stop", completion=source, source=source, feedback="off by one",
    )  # fmt: skip


ANSWERS = answers_by_name(
    [example(10, "a\nb\nc"), example(11, "x\ny\nz"), example(20, "q"), example(21, "broken", kind="repair")]
)


def test_a_failed_attempt_is_paired_with_the_nearest_answer_to_its_problem() -> None:
    (repair,) = repairs_of([sample("norm_11", "x\nY\nz")], answers=ANSWERS)
    assert (repair.kind, repair.answer, repair.problem) == ("repair", "x\ny\nz", "problem 1")
    assert (repair.attempt, repair.feedback, repair.seed) == ("x\nY\nz", "off by one", 11)


def test_each_name_of_a_problem_finds_all_its_answers_and_no_repair_is_one() -> None:
    assert ANSWERS["norm_10"] == ANSWERS["norm_11"] and len(ANSWERS["norm_10"]) == 2
    assert "norm_21" not in ANSWERS


def test_what_passed_was_cut_off_or_has_no_code_makes_none_and_the_same_attempt_makes_one() -> None:
    useless = [
        sample("norm_20", "q", status=Status.PASSED), sample("norm_20", "w", truncated=True), sample("norm_20", ""),
    ]  # fmt: skip
    assert repairs_of(useless, answers=ANSWERS) == []
    assert len(repairs_of([sample("norm_20", "w"), sample("norm_20", "w")], answers=ANSWERS)) == 1


@pytest.mark.parametrize("name", ["norm_30", "norm_99"])
def test_held_out_and_unknown_problems_are_refused(name: str) -> None:
    answers = {**ANSWERS, **answers_by_name([example(30, "a", split="held_out")])}
    with pytest.raises(ValueError, match=f"{name}: no training example"):
        repairs_of([sample(name, "w")], answers=answers)
