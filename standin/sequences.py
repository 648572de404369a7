"""Examples as text and as token sequences: the prompt exactly as a run renders it, then the answer and its end.

Knows nothing of batches or models.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from tokenizers import Tokenizer

from agent.prompts import Limit, PromptWriter, load_prompt_writer, strip_comments
from sandbox.types import Candidate, Failure, Observation, Operator, Problem, Proposal, Status, Verdict
from standin.corpus import CHANGED, COPIED, DRAFTED, TokenSequence
from standin.examples import Example
from standin.prompt_files import TEMPLATES
from standin.tokenizer import END, id_of

# What is too long is left out by its tokens, so the writer is never to cut an attempt.
NO_LIMIT = 10**9


def open_writer(tokenizer: Tokenizer) -> PromptWriter:
    """A writer of the prompts that a run writes for a checkpoint with this tokenizer."""

    @lru_cache(maxsize=2)  # the writer asks for one prompt's length again and again
    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return load_prompt_writer(None, limit=Limit(most=NO_LIMIT, length=length, unit="tokens"), checkpoint=TEMPLATES)


def prompt_of(example: Example, *, writer: PromptWriter) -> str:
    """What the loop would ask: a draft from the problem, a repair from the attempt and the judge's words on it."""
    problem = Problem(id="example", source=example.problem, origin="standin")
    if example.attempt is None or example.feedback is None:
        return writer.render(problem, Proposal(id="0", operator=Operator.DRAFT), ())
    failed = failed_attempt(example.attempt, problem=problem, feedback=example.feedback)
    proposal = Proposal(id="0", operator=Operator.REPAIR, parents=(failed.candidate.id,))
    return writer.render(problem, proposal, (failed,))


def failed_attempt(source: str, *, problem: Problem, feedback: str) -> Observation:
    """An observation of which only source and feedback are known: all that the prompt of a repair shows."""
    candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
    verdict = Verdict(
        candidate_id=candidate.id,
        status=Status.WRONG_VALUES,  # or another failure: the feedback says which
        feedback=feedback,
        failure=Failure(error_class="", message=""),
    )
    return Observation(candidate=candidate, verdict=verdict)


def answer_of(example: Example) -> str:
    """As the model is to write it: a bare file, which ends in one line end, as an attempt does in a repair's prompt."""
    return example.answer.strip("\n") + "\n"


def attempt_of(example: Example) -> str | None:
    """What a repair's prompt shows of the attempt, ended as an answer is; None of a draft."""
    return None if example.attempt is None else strip_comments(example.attempt).strip("\n") + "\n"


def encode(
    texts: Sequence[tuple[str, str]], *, tokenizer: Tokenizer, marks: Sequence[bytes | None] | None = None
) -> list[TokenSequence]:
    """Pairs of prompt and answer, each encoded by itself, as a run does, and the token that ends an answer put last.

    `marks` are those of repairs, by `marks_of`; answers without are drafts.
    """
    prompts = tokenizer.encode_batch([prompt for prompt, _ in texts], add_special_tokens=False)
    answers = tokenizer.encode_batch([answer for _, answer in texts], add_special_tokens=False)
    end = id_of(END, tokenizer=tokenizer)
    known = marks or [None] * len(texts)
    return [
        TokenSequence(
            ids=array("H", (*prompt.ids, *answer.ids, end)), num_prompt=len(prompt.ids),
            marks=bytes([DRAFTED]) * (len(answer.ids) + 1) if found is None else found,
        )
        for prompt, answer, found in zip(prompts, answers, known, strict=True)
    ]  # fmt: skip


def marks_of(attempt: Sequence[int], answer: Sequence[int]) -> bytes:
    """For each token of a repair's answer, and for its end, whether the attempt has it: CHANGED are those that it has
    not, and the first one after each place where the two differ, which says where the change ends."""
    marks = bytearray([COPIED]) * (len(answer) + 1)
    shortest = min(len(attempt), len(answer))
    head = next((i for i in range(shortest) if attempt[i] != answer[i]), shortest)
    tail = next((i for i in range(shortest - head) if attempt[-1 - i] != answer[-1 - i]), shortest - head)
    middle = attempt[head : len(attempt) - tail], answer[head : len(answer) - tail]
    for kind, _, _, start, end in SequenceMatcher(None, *middle, autojunk=False).get_opcodes():
        if kind != "equal":
            marks[head + start : head + end + 1] = bytes([CHANGED]) * (end - start + 1)
    return bytes(marks)
