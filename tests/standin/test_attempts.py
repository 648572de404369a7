"""A model's own mistake becomes a repair towards the nearest right answer, and never of a held-out problem."""

from __future__ import annotations

import ast
import difflib
import math
import re

import pytest

from sandbox.types import Operator, Status
from standin.attempts import failures_of, judged_repair, repair_for
from standin.evaluate import name_of
from standin.evaluation import Sample
from standin.likeness import named_as
from standin.naming import HELPER, draw_answer_naming, draw_problem_naming
from standin.pairs import pair, plain_answers
from standin.verify import close_opened

MADE = pair(5, split="train")


def sample(problem: str, source: str, *, status: Status = Status.WRONG_VALUES, truncated: bool = False) -> Sample:
    return Sample(
        problem=problem, operator=Operator.DRAFT, number=0, status=status, truncated=truncated, prompt_tokens=1,
        completion_tokens=1, finish_reason="stop", completion=source, source=source, feedback="off by one",
    )  # fmt: skip


def test_a_failed_attempt_is_paired_with_the_answer_that_is_most_like_it_in_its_own_names() -> None:
    """Whatever the attempt calls things: a repair keeps to its names, and mends what is wrong."""
    others = [answer for answer in plain_answers(MADE, 15) if answer != MADE.plain]
    for number, answer in enumerate(others):
        naming = draw_answer_naming(draw_problem_naming(f"train {MADE.seed}"), f"the model's own {number}")
        right = naming.renamed(answer)
        attempt = right.replace(" < ", " <= ", 1)
        repair = repair_for(sample(name_of(MADE), attempt))
        changed = [line for line in difflib.ndiff(attempt.splitlines(), repair.answer.splitlines()) if line[0] in "+-"]
        assert len(changed) == 2 and repair.answer == right  # the line with the slip, and what it should be
        assert (repair.kind, repair.split, repair.problem) == ("repair", "train", MADE.problem)
        assert (repair.attempt, repair.feedback, repair.seed) == (attempt, "off by one", 5)
    assert len(others) > 5


def test_a_helper_called_by_another_name_is_called_by_the_one_it_has() -> None:
    made = next(each for seed in range(40) if HELPER in (each := pair(seed, split="train")).plain)
    attempt = re.sub(r"return \w+\(", "return another(", made.answer)
    assert attempt != made.answer
    assert repair_for(sample(name_of(made), attempt)).answer == made.answer


def test_two_things_that_an_attempt_calls_alike_get_two_names() -> None:
    attempt = MADE.answer.replace(MADE.naming.of("mask"), MADE.naming.of("offs"))
    for plain in plain_answers(MADE, 10):
        named = named_as(attempt, plain, naming=MADE.naming)
        nodes = zip(ast.walk(ast.parse(plain)), ast.walk(ast.parse(named)), strict=True)
        names = {(a.id, b.id) for a, b in nodes if isinstance(a, ast.Name) and isinstance(b, ast.Name)}
        assert len({a for a, _ in names}) == len({b for _, b in names}) == len(names)


def test_what_every_answer_has_keeps_its_name() -> None:
    attempt = MADE.answer.replace("def forward(", "def __init__(")
    assert named_as(attempt, MADE.plain, naming=MADE.naming) == MADE.answer


def test_an_answer_is_used_only_if_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = MADE.answer.replace("tl.load", "tl.loads", 1)
    good, late = (judged_repair(sample(name_of(MADE), wrong), deadline=d) for d in (math.inf, -math.inf))
    assert good[0] == "repairs" and good[1] is not None and good[1].answer == MADE.answer
    assert late == ("out of time", None)
    monkeypatch.setattr("standin.attempts.named_as", lambda attempt, plain, naming: attempt)
    assert judged_repair(sample(name_of(MADE), wrong), deadline=math.inf) == ("answers that are compile_error", None)
    close_opened()


def test_what_passed_was_cut_off_or_has_no_code_makes_none_and_the_same_attempt_makes_one() -> None:
    name = name_of(MADE)
    useless = [
        sample(name, "q", status=Status.PASSED),
        sample(name, "u", status=Status.UNVERIFIED),
        sample(name, "w", truncated=True),
        sample(name, ""),
    ]
    assert failures_of(useless) == []
    assert len(failures_of([sample(name, "w"), sample(name, "w"), sample(name, "v")])) == 2


@pytest.mark.parametrize(
    "name", [name_of(pair(5, split="held_out")), f"train_unheard_of_{MADE.seed}", "softmax_of_no_seed"]
)
def test_held_out_and_unknown_problems_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: no training pair"):
        repair_for(sample(name, "w"))
