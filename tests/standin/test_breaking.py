"""Broken answers: what is broken is what the name says, and every slip is drawn."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from standin.breaking import ANOTHER, NAMES, broken, broken_further
from standin.pairs import pair

PAIRS = [pair(seed, split="train") for seed in range(0, 2400, 4)]
BROKEN = [(made, broken(made, seed=seed)) for made in PAIRS for seed in range(4)]


def _of(name: str) -> list[tuple[str, str]]:
    return [(made.answer, slip.source) for made, slip in BROKEN if slip.name == name]


def test_every_slip_is_drawn_and_none_prevails() -> None:
    counts = Counter(slip.name for _, slip in BROKEN)
    assert set(counts) == set(NAMES)
    slips = {name: count for name, count in counts.items() if name != ANOTHER}
    assert max(slips.values()) < 0.2 * sum(slips.values())


def test_a_slip_changes_the_answer_and_is_a_function_of_pair_and_seed() -> None:
    assert all(slip.source != made.answer for made, slip in BROKEN)
    assert broken(BROKEN[0][0], seed=0) == BROKEN[0][1]
    assert len({broken(BROKEN[0][0], seed=seed).source for seed in range(12)}) > 4


def test_all_but_one_slip_leave_a_file_that_parses() -> None:
    for _, slip in BROKEN:
        try:
            ast.parse(slip.source)
        except SyntaxError:
            assert slip.name == "does_not_parse"


def test_a_helper_or_kernel_is_defined_by_one_name_and_called_by_another() -> None:
    for made, slip in BROKEN:
        if slip.name in ("wrong_helper", "wrong_kernel"):
            defined = {node.name for node in ast.walk(ast.parse(slip.source)) if isinstance(node, ast.FunctionDef)}
            assert all(f"def {name}(" in made.answer for name in defined)
            (line,) = (new for old, new in _changed(made.answer, slip.source))
            called = re.findall(r"(\w+)(?:\[.*\])?\(", line)
            assert any(name not in defined for name in called), line
    helpers = [slip.source for _, slip in BROKEN if slip.name == "wrong_helper"]
    assert len(helpers) > 100 and len({re.findall(r"return (\w+)\(", each)[-1] for each in helpers}) > 60


def test_a_name_that_is_another_in_one_place_keeps_its_first() -> None:
    for before, after in _of("renamed_once"):
        ((old, new),) = _changed(before, after)
        (lost,) = Counter(re.findall(r"\w+", old)) - Counter(re.findall(r"\w+", new))
        assert lost in before[: before.index(old)] or old.count(lost) > new.count(lost) > 0


def test_parameters_and_arguments_no_longer_agree() -> None:
    for before, after in (*_of("other_parameters"), *_of("extra_argument")):
        ((old, new),) = _changed(before, after)
        assert old.count(",") != new.count(",") or sorted(re.findall(r"\w+", old)) == sorted(re.findall(r"\w+", new))


def _changed(before: str, after: str) -> list[tuple[str, str]]:
    lines = zip(before.split("\n"), after.split("\n"), strict=True)
    return [(old, new) for old, new in lines if old != new]


@pytest.mark.parametrize(
    ("name", "lost"),
    [("missing_constexpr", ": tl.constexpr"), ("missing_jit", "@triton.jit"), ("missing_mask", "mask=")],
)
def test_what_is_missing_was_there(name: str, lost: str) -> None:
    assert all(after.count(lost) < before.count(lost) for before, after in _of(name))


def test_a_forgotten_step_is_one_line() -> None:
    assert all(len(before.split("\n")) == len(after.split("\n")) + 1 for before, after in _of("forgotten_step"))


def test_invented_functions_are_none_of_triton_s() -> None:
    for before, after in _of("invented_function"):
        new = [line for line in after.split("\n") if line not in before.split("\n")]
        assert new and all("tl." in line or "libdevice." in line for line in new)


def test_two_thirds_of_the_answers_are_broken_further_and_differ_in_more_places() -> None:
    further = [(slip, broken_further(made, seed=0)) for made, slip in BROKEN[::4]]
    more = [(once, often) for once, often in further if once.source != often.source]
    assert 0.55 < len(more) / len(further) < 0.75
    assert all(often.name.startswith(f"{once.name} and ") for once, often in more)
    assert all(often.source != made.answer for made, (_, often) in zip(PAIRS, further, strict=True))
