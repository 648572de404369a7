"""The generated pairs: a function of their arguments, in the right form, and nothing held out in training."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from sandbox.problems import form_fault
from standin.breaking import ANOTHER, broken
from standin.families.matmul_rows import HELD_OUT_MEETINGS
from standin.pairs import FAMILIES, Pair, Split, composition, held_out, large, pair

ROOT = Path(__file__).parents[2]
PAIRS: list[Pair] = [pair(seed, split="train") for seed in range(1, 2400, 8)]


def test_no_held_out_composition_is_in_the_training_set() -> None:
    train = {composition(seed, split="train") for seed in range(2_000)}
    others = {composition(seed, split="held_out") for seed in range(800)}
    longer = {composition(seed, split="longer") for seed in range(200)}
    assert len(train) > 1_000 and len(others) > 300 and len(longer) > 150
    assert not train & others and not (train | others) & longer


def test_longer_chains_have_more_operations_than_any_other() -> None:
    def count(split: Split) -> list[int]:
        return [len(composition(seed, split=split).split(", ")) for seed in range(1_000)]

    assert max(count("train") + count("held_out")) < min(count("longer"))


def test_about_an_eighth_of_all_compositions_is_held_out() -> None:
    rng = Random(0)
    drawn = {(name, family.draw(rng)) for name, family in FAMILIES.items() for _ in range(300)}
    share = sum(held_out(*each) for each in drawn) / len(drawn)
    assert 0.09 < share < 0.18


def test_some_families_of_operations_meet_in_held_out_problems_alone() -> None:
    assert all(held_out("matmul_rows", (first, "relu", second)) for first, second in HELD_OUT_MEETINGS)


def test_a_pair_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from standin.pairs import pair; "
        "print(hashlib.sha256(repr([pair(s, split='train') for s in range(60)]).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    here = hashlib.sha256(repr([pair(seed, split="train") for seed in range(60)]).encode()).hexdigest()
    assert told.stdout.strip() == here


def test_generating_needs_the_standard_library_alone() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import standin.breaking, standin.pairs"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)  # -S: nothing that was installed can be imported


def test_problems_are_in_kernelbench_form() -> None:
    assert [fault for each in PAIRS if (fault := form_fault(each.problem)) is not None] == []


def test_answers_are_whole_files_without_comments() -> None:
    for each in PAIRS:
        classes = [node.name for node in ast.parse(each.answer).body if isinstance(node, ast.ClassDef)]
        assert classes == ["ModelNew"]
        assert "@triton.jit" in each.answer and "#" not in each.answer


def test_every_family_and_dialect_is_drawn() -> None:
    assert {each.family for each in PAIRS} == set(FAMILIES)
    assert {each.style.split("/")[0] for each in PAIRS} == {"tutorial", "plain", "literal"}
    forms = Counter(each.style.partition("/")[2] for each in PAIRS)
    assert min(forms[form] for form in ("whole", "blocks", "columns", "atomic", "partial")) > 0


@pytest.mark.parametrize("split", ["train", "held_out", "longer"])
def test_each_seed_has_a_problem_of_its_own(split: Split) -> None:
    assert len({pair(seed, split=split).problem for seed in range(40)}) >= 39  # two single ReLUs may come out alike


def test_half_of_the_slips_answer_a_neighbouring_problem_on_the_same_tensors() -> None:
    slips = [(each, broken(each, seed=0)) for each in PAIRS]
    others = [(each, slip.source) for each, slip in slips if slip.name == ANOTHER]
    assert 0.35 < len(others) / len(slips) < 0.6
    for each, source in others:
        assert source != each.answer and "class ModelNew" in source
        forward = re.compile(r"def forward\((.*)\):")
        assert forward.findall(source) == forward.findall(each.answer)


@pytest.mark.parametrize("split", ["train", "held_out", "longer"])
def test_the_large_size_differs_in_numbers_alone(split: Split) -> None:
    def without_numbers(text: str) -> str:
        return re.sub(r"\d+", "0", text)

    for seed in range(0, 200, 5):
        small = pair(seed, split=split)
        big = large(small)
        assert without_numbers(big.problem) == without_numbers(small.problem)
        assert big.problem != small.problem and big.style == small.style


def test_pairs_are_short_enough_for_a_small_model() -> None:
    assert sum(len(each.problem) for each in PAIRS) / len(PAIRS) < 500
    assert sum(len(each.answer) for each in PAIRS) / len(PAIRS) < 1_200
