"""Changes to plans and messages, made by a random source: what a hostile child might send in place of an honest answer.

Knows the JSON of a plan only as a tree. Whether a changed plan must be refused is the tests' to say.
"""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    -1, 0, 1, 2, 3, 7, 31, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**70, -(2**63), 10**40, 0.0,
    -0.5, 1.5, 1e308, float("nan"), float("inf"), True, False, None, "", "x", "aten.add.Tensor", "aten.zeros.default",
    "aten.as_strided.default", "float32", "bool", "constant", "cuda", "*fp32", "i64", "\ud800", "\u0000", "a" * 5_000,
    [], {}, [[]], [0], [-1, 2**63], {"tensor": 0}, {"tensor": -1}, {"float": "nan"}, {"tuple": []},
    {"dict": [["a", 1]]},
    {"descriptor": [0, [4, 8], [8, 1], "nan"]}, {"flags": 1}, "tensordesc<fp32[4, 512]>",
    {"device": "cpu"}, {"dtype": "float64"}, [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],
)  # fmt: skip
_OPERATORS = (
    "aten.add.Tensor", "aten.sum.default", "aten.zeros.default", "aten.full.default", "aten.view.default",
    "aten.as_strided.default", "aten.resize_.default", "aten.set_.source_Tensor", "aten.repeat.default",
    "aten.index_put_.default", "aten.expand.default", "aten.cat.default", "aten.empty_strided.default",
    "aten.nonzero.default", "aten.item.default", "prims.iota.default", "aten.constant_pad_nd.default",
)  # fmt: skip


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree of lists and dictionaries."""
    found: list[tuple[Any, Any]] = []
    below = [tree]
    while below:
        item = below.pop()
        keys = range(len(item)) if isinstance(item, list) else list(item) if isinstance(item, dict) else ()
        for key in keys:
            found.append((item, key))
            if isinstance(item[key], list | dict):
                below.append(item[key])
    return found


def mutated(tree: Any, random: Random) -> Any:
    """A copy of a JSON tree with one to three changes, often all under one of its keys."""
    tree = copy.deepcopy(tree)
    within = tree
    if isinstance(tree, dict) and random.randrange(4):
        within = tree[random.choice(sorted(tree))]
    for _ in range(random.choice((1, 1, 2, 3))):
        found = places(within)
        if not found:
            return tree
        container, key = found[random.randrange(len(found))]
        _change(container, key, found, random)
    return tree


def _change(container: Any, key: Any, found: list[tuple[Any, Any]], random: Random) -> None:
    kind = random.randrange(7)
    value = container[key]
    if kind <= 1 and type(value) is int:  # a number that may well be as good
        container[key] = value + random.choice((-1, 1, 2, 16, -value, value, 1024))
    elif kind == 2 and isinstance(value, str) and value.startswith("aten."):
        container[key] = random.choice(_OPERATORS)
    elif kind == 3:
        del container[key]
    elif kind == 4 and isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), copy.deepcopy(value))
    elif kind == 5:
        other, at = found[random.randrange(len(found))]
        container[key] = copy.deepcopy(other[at])
    elif kind == 6:
        other, at = found[random.randrange(len(found))]
        if type(other[at]) is type(value) and not isinstance(value, list | dict):
            container[key], other[at] = other[at], value
    else:
        container[key] = copy.deepcopy(random.choice(HOSTILE))


def as_bytes(tree: Any) -> bytes:
    """JSON that says more than JSON may: NaN, lone surrogates."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def corrupted(raw: bytes, random: Random) -> bytes:
    """Bytes cut off, with bits flipped, or with a stretch taken out or put in twice."""
    changed = bytearray(raw)
    for _ in range(random.randint(1, 4)):
        if not changed:
            break
        at = random.randrange(len(changed))
        match random.randrange(4):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                del changed[at : at + random.randint(1, 64)]
            case _:
                changed[at:at] = changed[at : at + random.randint(1, 64)]
    return bytes(changed)
