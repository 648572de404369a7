"""A model's own mistake becomes a repair towards the nearest right answer, and never of a held-out problem."""

from __future__ import annotations

import difflib

import pytest

from sandbox.types import Operator, Status
from standin.attempts import NUM_ANSWERS, failures_of, repair_for
from standin.evaluate import name_of
from standin.evaluation import Sample
from standin.pairs import answers, pair

MADE = pair(5, split="train")


def sample(problem: str, source: str, *, status: Status = Status.WRONG_VALUES, truncated: bool = False) -> Sample:
    return Sample(
        problem=problem, operator=Operator.DRAFT, number=0, status=status, truncated=truncated, prompt_tokens=1,
        completion_tokens=1, finish_reason="stop", completion=source, source=source, feedback="off by one",
    )  # fmt: skip


def test_a_failed_attempt_is_paired_with_the_answer_that_is_most_like_it() -> None:
    others = [answer for answer in answers(MADE, NUM_ANSWERS) if answer != MADE.answer]
    for answer in others:
        attempt = answer.replace("mask=", "msk=", 1)
        repair = repair_for(sample(name_of(MADE), attempt))
        changed = [line for line in difflib.ndiff(attempt.splitlines(), repair.answer.splitlines()) if line[0] in "+-"]
        assert len(changed) == 2  # the line with the slip, and what it should be
        assert (repair.kind, repair.split, repair.problem) == ("repair", "train", MADE.problem)
        assert (repair.attempt, repair.feedback, repair.seed) == (attempt, "off by one", 5)
    assert len(others) > 5


def test_what_passed_was_cut_off_or_has_no_code_makes_none_and_the_same_attempt_makes_one() -> None:
    name = name_of(MADE)
    useless = [sample(name, "q", status=Status.PASSED), sample(name, "w", truncated=True), sample(name, "")]
    assert failures_of(useless) == []
    assert len(failures_of([sample(name, "w"), sample(name, "w"), sample(name, "v")])) == 2


@pytest.mark.parametrize(
    "name", [name_of(pair(5, split="held_out")), f"train_unheard_of_{MADE.seed}", "softmax_of_no_seed"]
)
def test_held_out_and_unknown_problems_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: no training pair"):
        repair_for(sample(name, "w"))
