"""Sequences of examples: the prompt is the run's own, and only the answer is learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from agent.config import load_config
from agent.engine_config import EngineConfig
from agent.prompts import PromptWriter
from agent.sampler_config import LocalModelSection
from agent.sampling import open_prompt_writer, tokens_of
from standin.breaking import broken
from standin.checkpoint import copy_templates
from standin.corpus import CHANGED, COPIED
from standin.examples import draft_of, repair_of
from standin.pairs import pair
from standin.prompt_files import TEMPLATES
from standin.sequences import answer_of, attempt_of, encode, marks_of, open_writer, prompt_of
from standin.tokenizer import END, MARKERS, id_of, read_tokenizer, train_tokenizer
from tests.standin.tiny_pairs import tiny_pair, tiny_repair

ROOT = Path(__file__).parents[2]
DRAFT = tiny_pair(3, split="train")
REPAIR = tiny_repair(3, split="train")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([DRAFT.problem, DRAFT.answer], vocabulary=400)


@pytest.fixture(scope="module")
def writer(tokenizer: Tokenizer) -> PromptWriter:
    return open_writer(tokenizer)


def test_a_draft_is_asked_with_the_problem_between_the_markers(writer: PromptWriter) -> None:
    source = DRAFT.problem.strip("\n")
    assert prompt_of(DRAFT, writer=writer) == f"<|begin_of_text|><|problem|>\n{source}\n<|answer|>\n"


def test_a_repair_goes_on_where_the_failed_answer_ended_and_states_the_problem_again(writer: PromptWriter) -> None:
    assert REPAIR.attempt is not None
    prompt = prompt_of(REPAIR, writer=writer)
    before = prompt_of(DRAFT, writer=writer) + REPAIR.attempt.strip("\n") + "\n"
    assert prompt == f"{before}<|feedback|>\n{REPAIR.feedback}\n{prompt_of(DRAFT, writer=writer)}"


def test_a_repair_shows_the_attempt_without_its_comments(writer: PromptWriter) -> None:
    """As the loop shows it: a model must not learn from what it will never see."""
    from dataclasses import replace

    commented = replace(REPAIR, attempt=f"# a remark\n{REPAIR.attempt}")
    assert prompt_of(commented, writer=writer) == prompt_of(REPAIR, writer=writer)


def test_prompt_answer_and_end_stand_in_a_row(writer: PromptWriter, tokenizer: Tokenizer) -> None:
    texts = [(prompt_of(example, writer=writer), answer_of(example)) for example in (DRAFT, REPAIR)]
    for (prompt, answer), sequence in zip(texts, encode(texts, tokenizer=tokenizer), strict=True):
        given, learnt = sequence.ids[: sequence.num_prompt], sequence.ids[sequence.num_prompt :]
        assert list(given) == tokenizer.encode(prompt, add_special_tokens=False).ids
        assert tokenizer.decode(list(learnt)) == answer
        assert learnt[-1] == id_of(END, tokenizer=tokenizer)


def test_every_marker_is_used_by_a_template() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir())
    assert [marker for marker in MARKERS if marker not in text] == []


def test_marks_say_what_a_repair_has_that_the_attempt_has_not() -> None:
    attempt, answer = [5, 6, 7, 8, 9, 10, 11], [5, 6, 20, 21, 8, 9, 11]
    marks = marks_of(attempt, answer)
    # 20 and 21 for 7; 10 is gone, so what comes in its place is as new; the last is the end.
    assert list(marks) == [COPIED, COPIED, CHANGED, CHANGED, CHANGED, COPIED, CHANGED, COPIED]
    assert list(marks_of([5, 6], [5, 6, 7])) == [COPIED, COPIED, CHANGED, CHANGED]
    assert list(marks_of([5, 6, 7], [5, 6])) == [COPIED, COPIED, CHANGED]  # the end comes sooner


def test_an_attempt_that_is_the_answer_but_for_a_slip_is_marked_at_the_slip(tokenizer: Tokenizer) -> None:
    attempt = attempt_of(REPAIR)
    assert attempt is not None and attempt_of(DRAFT) is None
    old, new = (tokenizer.encode(text).ids for text in (attempt, answer_of(REPAIR)))
    marks = marks_of(old, new)
    changed = tokenizer.decode([token for token, mark in zip(new, marks, strict=False) if mark == CHANGED])
    assert 0 < len(changed) < 40 and marks.count(COPIED) > 0.7 * len(marks)


def test_a_run_sends_the_very_tokens_that_training_learnt_from(tmp_path: Path) -> None:
    """With a checkpoint as training leaves it: the repository's own has the templates of its day, and a
    tokenizer that has tokens of its own for few of today's names, so prompts are given more room."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(ROOT / "standin" / "checkpoint", checkpoint)
    copy_templates(checkpoint)
    sampler = load_config(
        ROOT / "configs" / "quickstart.yaml", [f"sampler.model={checkpoint}", "sampler.max_tokens=400"]
    ).sampler
    assert isinstance(sampler, LocalModelSection)
    run, encode = open_prompt_writer(sampler, engine=EngineConfig()), tokens_of(sampler).encode
    tokenizer = read_tokenizer(checkpoint)
    training = open_writer(tokenizer)
    for seed in range(12):
        made = pair(seed, split="held_out")
        told = "The output is wrong.\nHint: compare <|answer|>."
        for each in (draft_of(made), repair_of(made, attempt=broken(made, seed=0).source, feedback=told)):
            assert encode(prompt_of(each, writer=run)) == tuple(
                tokenizer.encode(prompt_of(each, writer=training), add_special_tokens=False).ids
            )
