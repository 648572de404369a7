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
from standin import pairs
from standin.breaking import ANOTHER, broken
from standin.families.matmul_rows import HELD_OUT_MEETINGS
from standin.pairs import FAMILIES, Pair, Split, answer_to_another, composition, held_out, large, pair

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


def test_a_quarter_of_the_slips_answer_a_neighbouring_problem_on_the_same_tensors() -> None:
    slips = [(each, broken(each, seed=0)) for each in PAIRS]
    others = [(each, slip.source) for each, slip in slips if slip.name == ANOTHER]
    assert 0.15 < len(others) / len(slips) < 0.35
    for each, source in others:
        assert source != each.answer and "class ModelNew" in source
        forward = re.compile(r"def forward\((.*)\):")
        assert forward.findall(source) == forward.findall(each.answer)


def test_no_answer_to_another_problem_is_of_a_held_out_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is never trained on would stand in prompts, as an attempt."""
    kept = [answer_to_another(each, Random(each.seed)) for each in PAIRS]
    assert sum(answer is not None for answer in kept) > 100
    known = {each.seed: pairs._composition(each.seed, "train") for each in PAIRS}
    monkeypatch.setattr("standin.pairs._composition", lambda seed, split: known[seed])
    monkeypatch.setattr("standin.pairs.held_out", lambda family, operations: True)
    assert [answer_to_another(each, Random(each.seed)) for each in PAIRS] == [None] * len(PAIRS)


def test_what_is_held_out_does_not_depend_on_a_pool_s_window() -> None:
    for kind in ("max_pool1d", "avg_pool2d", "max_pool2d"):
        told = {held_out("pooling", (f"{kind}_{w}_{s}_{p}", "relu")) for w in (2, 3, 4) for s in (1, 2) for p in (0, 1)}
        assert len(told) == 1


def test_names_are_drawn_from_many_and_agree_between_problem_and_answer() -> None:
    def words(pattern: str) -> Counter[str]:
        return Counter(name for each in PAIRS for name in re.findall(pattern, each.answer, re.M))

    helpers, kernels = words(r"^def (\w+)\("), words(r"(?<=^@triton\.jit\ndef )\w+")
    sizes = Counter(name for each in PAIRS for name in re.findall(r"^(\w+) = \d+$", each.problem, re.M))
    numbers = Counter(number for each in PAIRS for number in re.findall(r"^\w+ = (\d+)$", each.problem, re.M))
    for counts, fewest in ((helpers, 80), (kernels, 150), (sizes, 50), (numbers, 80)):
        assert len(counts) > fewest and counts.most_common(1)[0][1] < 0.15 * counts.total()
    for each in PAIRS:
        (asked,) = re.findall(r"def forward\(self, (.*?)\)", each.problem)
        (taken,) = re.findall(r"def forward\(self, (.*)\):", each.answer)
        assert taken == asked.replace(": torch.Tensor", "")


def test_renaming_leaves_the_shape_of_the_program() -> None:
    """The same tree but for names, and as many different names: none was given twice."""
    for each in PAIRS:
        plain, named = (list(ast.walk(ast.parse(text))) for text in (each.plain, each.answer))
        assert [type(node) for node in plain] == [type(node) for node in named]
        both = zip(plain, named, strict=True)
        names = {(a.id, b.id) for a, b in both if isinstance(a, ast.Name) and isinstance(b, ast.Name)}
        assert len({a for a, _ in names}) == len({b for _, b in names}) == len(names)


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
