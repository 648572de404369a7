"""Pairs of a problem and a right answer, made from a seed. Standard library alone.

A pair is a function of its arguments and of this package's source. What is held out is decided by the composition, that
is the family and the names of its operations in order: neither sizes, nor constants, nor names, nor ways of writing
bring a held-out composition into the training set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from random import Random
from typing import Literal

from standin.answer_text import draw_dialect, write_answer
from standin.families.broadcast import BroadcastFamily
from standin.families.elementwise import Elementwise
from standin.families.loss import LossFamily
from standin.families.matmul import MatmulFamily
from standin.families.matmul_rows import HELD_OUT_MEETINGS, MatmulRowsFamily
from standin.families.planes import PlaneFamily
from standin.families.pooling import PoolingFamily
from standin.families.rows import NORM, REDUCTION, SOFTMAX
from standin.families.scan import ScanFamily
from standin.naming import HELPER, Naming, draw_answer_naming, draw_problem_naming
from standin.operations import BINARY, GIVEN, UNARY, tells
from standin.problem_text import write_problem
from standin.shapes import Size
from standin.task import Family, Task

# "longer" are chains of more operations than any in the other two.
Split = Literal["train", "held_out", "longer"]

_ALL: tuple[Family, ...] = (
    Elementwise(), BroadcastFamily(), REDUCTION, SOFTMAX, NORM, LossFamily(), MatmulFamily(), PoolingFamily(),
    ScanFamily(), MatmulRowsFamily(), PlaneFamily(),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
# Of all compositions, in a hundred.
HELD_OUT_PERCENT = 13
# How many draws a neighbour is the nearest of: the more, the nearer.
_NEIGHBOURS = (60, 60, 10, 3)
_PARAMETERS = re.compile(r"_\d+(?=_|,|$)")  # a pool's window, stride and padding, which decide nothing
_SHOWN = ("pooling: max_pool2d",)  # held out whatever its hash, as configs/problems_standin has one
_LENGTHENED = ("elementwise", "broadcast", "matmul")  # which take any operation after their own, 5 at most in training
_LONGER = (6, 7, 8)
_LONGER_TRIES = 40  # at an operation that tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A problem in KernelBench form and a whole file with a `ModelNew` that answers it.

    `style` is how the answer is written and built. `family` is the problem's. `plain` is the answer in the generator's
    own names, `naming` what they were replaced by.
    """

    seed: int
    split: Split
    family: str
    style: str
    problem: str
    answer: str
    plain: str
    naming: Naming


def pair(seed: int, *, split: Split, size: Size = "small") -> Pair:
    """The pair number `seed` of a split; `size` "large" has the same composition and wording at sizes for a GPU."""
    family, operations = _composition(seed, split)
    rng = Random(f"problem {split} {seed}")
    task = FAMILIES[family].settle(operations, rng, size)
    problem = write_problem(task.module, rng)
    style, plain = _answered(task, Random(f"answer {split} {seed}"))
    of_problem = draw_problem_naming(f"{split} {seed}")
    naming = draw_answer_naming(of_problem, f"{split} {seed}")
    return Pair(
        seed=seed, split=split, family=family, style=style, problem=of_problem.renamed(problem),
        answer=naming.renamed(plain), plain=plain, naming=naming,
    )  # fmt: skip


def plain_answers(pair_: Pair, count: int) -> list[str]:
    """The pair's answer, and `count` others to its problem, in plain names; some may come out alike."""
    own = _settled(*_composition(pair_.seed, pair_.split), pair_)
    others = (Random(f"answer {pair_.split} {pair_.seed} {number}") for number in range(count))
    return [pair_.plain, *(_answered(own, rng)[1] for rng in others)]


def seed_range(text: str) -> range:
    """`A..B` as a range, B left out. Raises ValueError."""
    first, dots, end = text.partition("..")
    if not dots or not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(f"{text!r} is no range of seeds: write FIRST..END, such as 0..180")
    return range(int(first), int(end))


def _answered(task: Task, rng: Random) -> tuple[str, str]:
    """How an answer is written and built, and its text in plain names."""
    dialect = draw_dialect(rng)
    answer = task.answer(rng, dialect)
    return answer.style, write_answer(answer, task.module, dialect, helper_name=HELPER)


def answer_to_another(pair_: Pair, rng: Random) -> str | None:
    """A right answer, written as the pair's is and in plain names, to a problem that differs in few of its operations
    and takes the same tensors; None where the draws give none. Of no composition that is held out: a model would see
    it, if only as an attempt."""
    family, operations = _composition(pair_.seed, pair_.split)
    own = _settled(family, operations, pair_)
    drawn = {FAMILIES[family].draw(rng) for _ in range(rng.choice(_NEIGHBOURS))} - {operations}
    drawn = {other for other in drawn if not held_out(family, other)}
    for other in sorted(drawn, key=lambda o: (-SequenceMatcher(None, o, operations).ratio(), o)):
        task = _settled(family, other, pair_)
        if (task.module.forward, task.module.inputs) == (own.module.forward, own.module.inputs):
            source = _answered(task, Random(f"answer {pair_.split} {pair_.seed}"))[1]
            if source != pair_.plain:
                return source
    return None


def _settled(family: str, operations: tuple[str, ...], pair_: Pair) -> Task:
    return FAMILIES[family].settle(operations, Random(f"problem {pair_.split} {pair_.seed}"), "small")


def large(pair_: Pair) -> Pair:
    """The same pair at sizes that a GPU is timed on."""
    return pair(pair_.seed, split=pair_.split, size="large")


def composition(seed: int, *, split: Split) -> str:
    """What the pair of that seed is made of: `family: operation, operation`."""
    family, operations = _composition(seed, split)
    return _key(family, operations)


def held_out(family: str, operations: tuple[str, ...]) -> bool:
    """Whether training never sees that composition."""
    if any(first in operations and second in operations for first, second in HELD_OUT_MEETINGS):
        return True
    key = _PARAMETERS.sub("", _key(family, operations))
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT or key in _SHOWN


def _key(family: str, operations: tuple[str, ...]) -> str:
    return f"{family}: {', '.join(operations)}"


@cache
def _families() -> tuple[tuple[Family, ...], tuple[float, ...]]:
    return tuple(FAMILIES.values()), tuple(family.weight for family in FAMILIES.values())


def _composition(seed: int, split: Split) -> tuple[str, tuple[str, ...]]:
    rng = Random(f"composition {split} {seed}")
    if split == "longer":
        return _longer(rng)
    family = rng.choices(*_families())[0]  # before what is held out, so that either split has the same share of each
    while True:
        operations = family.draw(rng)
        if held_out(family.name, operations) == (split == "held_out"):
            return family.name, operations


def _longer(rng: Random) -> tuple[str, tuple[str, ...]]:
    """A composition of a family, with operations after it until it is long enough, each of which tells."""
    while True:
        family, count = rng.choice(_LENGTHENED), rng.choice(_LONGER)
        operations = FAMILIES[family].draw(rng)
        for name in rng.choices(tuple(UNARY), k=_LONGER_TRIES):
            known = tuple(each for each in operations if each in UNARY or each in BINARY)
            grows = UNARY[name].grows and any(each in UNARY and UNARY[each].grows for each in known)
            if not grows and tells(known, name, given=GIVEN):
                operations = (*operations, name)
            if len(operations) == count:
                return family, operations
