"""A renamed example is the same example: the judge says of it what it said, under the other names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from torch import nn

from sandbox import launch_counts
from standin.breaking import broken, broken_further
from standin.examples import Example, draft_of, repair_of
from standin.pairs import pair
from standin.redrawing import COUNT
from standin.renaming import NotRenamed, Renamable
from standin.verify import Verifier
from standin.words import ATTRIBUTES

# Pair, and the seed of what breaks it.
JUDGED = {
    "a block size that is no constexpr": (4, 0),
    "an invented function": (7, 0),
    "a helper by another name": (9, 1),
    "a parameter that no launch gives": (11, 0),
    "a name that a kernel does not have": (12, 0),
    "a grid that is too small": (13, 0),
}
WORD = re.compile(r"[A-Za-z_]\w*")
FIGURE = re.compile(r"(?<=expected )\S+|(?<=got )\S+|[\d.]+(?=% of)|(?<=First at )\[.*?\]")
MADE = pair(8, split="train")
WRONG = "The program runs, but its output is wrong."


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as opened:
        yield opened


def renamed(example: Example, number: int = 1) -> Example:
    made = Renamable(example).renamed(number)
    assert isinstance(made, Example)
    return made


def repair(attempt: str, feedback: str) -> Example:
    return repair_of(MADE, attempt=attempt, feedback=feedback)


@pytest.mark.parametrize(("seed", "slip"), JUDGED.values(), ids=JUDGED)
def test_the_judge_says_of_a_renamed_attempt_what_it_said(verifier: Verifier, seed: int, slip: int) -> None:
    """But for figures: inputs are drawn by the problem's text."""
    made = pair(seed, split="train")
    attempt = broken_further(made, seed=slip).source
    said = verifier.verdict(made.problem, attempt)
    assert not said.passed
    other = renamed(repair_of(made, attempt=attempt, feedback=said.feedback))
    assert other.attempt is not None and other.feedback is not None
    again = verifier.verdict(other.problem, other.attempt)
    assert again.status == said.status
    assert FIGURE.sub("#", again.feedback) == FIGURE.sub("#", other.feedback)
    assert verifier.verdict(other.problem, other.answer).passed


def test_it_is_one_to_one_and_every_new_word_is_new() -> None:
    for seed in range(0, 120, 3):
        made = pair(seed, split="train")
        example = repair_of(
            made, attempt=broken(made, seed=1).source, feedback="The program runs, but its output is wrong."
        )
        other = renamed(example, 2)
        before, after = (WORD.findall(_whole(each)) for each in (example, other))
        changed = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
        assert len(changed) > 5 and len({old for old, _ in changed}) == len({new for _, new in changed}) == len(changed)
        assert {new for _, new in changed}.isdisjoint(before)
        assert WORD.sub("#", _whole(example)) == WORD.sub("#", _whole(other))


def _whole(example: Example) -> str:
    return "\n".join((example.problem, example.attempt or "", example.answer))


def test_a_naming_is_a_function_of_example_and_number() -> None:
    example = draft_of(MADE)
    made = [renamed(example, number) for number in (1, 2, 3)]
    assert made == [Renamable(example).renamed(number) for number in (1, 2, 3)]
    assert len({each.answer for each in made} | {example.answer}) == 4


ATTEMPT = """import torch

def launch(x, out):
    res = tl.max(x, mask=msk)
    return out.shape

class ModelNew(nn.Module):
    def forward(self, x):
        out = self.gain * x
        return start(x, BLOCK=7)
"""


FAILED = "Running the Python code of ModelNew failed.\n"
START = "NameError at line 10: return {start}({x}, {BLOCK}=7)\nname '{start}' is not defined\n"


@pytest.mark.parametrize(
    "said",
    [
        START + "Hint: Define or import that name in the file, inside the kernel for kernel code.",
        START + "{start} is called and never defined; {launch} is defined and never called",
        "AttributeError at line 9: {out} = self.{gain} * {x}\n'ModelNew' object has no attribute '{gain}'",
        "TypeError: {launch}() takes 2 positional arguments but 3 were given",
        "TypeError at line 10: return {start}({x}, {BLOCK}=7)\ngot an unexpected keyword argument '{BLOCK}'",
        "TypeError at line 4: {res} = tl.max({x}, mask={msk})\ndynamic_func() missing 2 required positional arguments: "
        "'{out}' and '{x}'",
        "CompilationError at line 4: {res} = tl.max({x}, mask={msk})\nNameError: {msk} is not defined",
        "line 4: triton.language has no fabs: write tl.abs({res})",
    ],
)
def test_names_in_feedback_follow(said: str) -> None:
    as_they_are = {word: word for word in WORD.findall(ATTEMPT)}
    other = renamed(repair(ATTEMPT, FAILED + said.format_map(as_they_are)))
    assert other.attempt is not None
    names = dict(zip(WORD.findall(ATTEMPT), WORD.findall(other.attempt), strict=True))
    assert len({"start", "launch", "x", "out", "gain", "res", "msk", "BLOCK"} - set(names.values())) == 8
    assert other.feedback == FAILED + said.format_map(names)


def test_words_of_the_judge_and_of_libraries_stay() -> None:
    feedback = (
        "The program runs, but its output is wrong.\noutput: 9% of the elements are wrong. First at [0]: expected 1."
    )
    other = renamed(repair(ATTEMPT.replace("res", "output"), feedback))
    assert other.feedback == feedback
    assert other.attempt is not None and "output" not in other.attempt
    assert ".shape" in other.attempt and "tl.max(" in other.attempt and "mask=" in other.attempt


def test_what_does_not_parse_is_renamed_too() -> None:
    attempt = ATTEMPT.replace("return out.shape", "return launch(out.shape")
    error = "SyntaxError at line 5: return launch(out.shape\n'(' was never closed"
    hint = "Hint: Write the whole file again, as one complete Python module."
    other = renamed(repair(attempt, f"{FAILED}{error}\n{hint}"))
    assert other.attempt is not None and "def launch(" not in other.attempt
    assert other.feedback is not None
    assert other.feedback.split("\n")[1].endswith(f": {other.attempt.splitlines()[4].strip()}")


GRID = "The grid is a tuple of one to three positive numbers; the second and third are at most 65535."


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("NameError: name 'a ... b' is not defined", NotRenamed.LENGTH),
        ("line 4: triton.language has no tanh: write libdevice.tanh", NotRenamed.LENGTH),
        ("NameError at line 4: launch_grid = tl.max(x, mask=msk)\nname 'launch_grid' is not defined\n"
         f"Hint: {GRID}", NotRenamed.HINT),
        ("NameError at line 2: use gain\nname 'gain' is not defined", NotRenamed.PLACE),
    ],
)  # fmt: skip
def test_where_the_judge_s_words_depend_on_a_name_there_is_no_other(error: str, why: NotRenamed) -> None:
    attempt = ATTEMPT.replace("res =", "launch_grid =")
    if why is NotRenamed.PLACE:
        attempt = f'"""\nuse gain\n"""\n{attempt}'
    assert Renamable(repair(attempt, FAILED + error)).renamed(1) is why


def test_counts_keep_names_by_which_the_judge_knows_them() -> None:
    assert COUNT.pattern == launch_counts._COUNT.pattern
    attempt = MADE.answer.replace("n_elements", "numel")
    for number in range(1, 9):
        other = renamed(repair(attempt, WRONG), number)
        assert other.attempt is not None
        for old, new in zip(WORD.findall(attempt), WORD.findall(other.attempt), strict=True):
            assert old == new or not COUNT.fullmatch(old) or COUNT.fullmatch(new)


def test_attributes_are_none_of_a_module_s_own() -> None:
    drawn = {word for plain, words in ATTRIBUTES.items() for word in (plain, *words)}
    assert drawn.isdisjoint(dir(nn.Module()))


def test_an_example_s_kind_and_place_stay() -> None:
    example = draft_of(MADE)
    other = renamed(example)
    assert replace(other, problem=example.problem, answer=example.answer) == example
