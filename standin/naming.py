"""What the things in a problem and its answers are called: the generator writes plain names, and this gives others.

Names are drawn from large pools, so that a model must copy them from its prompt and from its own text. Every plain name
has one other name throughout a text, no two have the same, so what the text means stays. Knows nothing of what is
computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from standin.words import (
    ARGUMENTS,
    ATTRIBUTES,
    KERNEL_ENDS,
    KERNEL_FIRSTS,
    KERNEL_SECONDS,
    LOCALS,
    LONE_VERBS,
    OBJECTS,
    PLAIN_SIZES,
    PLAIN_TENSORS,
    POINTERS,
    SIZES,
    TENSORS,
    VERBS,
)

HELPER = "helper_function"  # the plain name of what launches an answer's kernels
_KEPT = 0.3  # of plain names
_KEPT_KERNELS = 0.25
# Strings stay; so does what a call names its arguments, but for blocks, which a launch names as the kernel does.
_PIECE = re.compile(r'"""[^"]*"""|"[^"\n]*"|(?<![\w.])self\.([A-Za-z_]\w*)|(?<![\w.])([A-Za-z_]\w*)(?!\w)(=(?!=))?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """`words` are by plain name, `attributes` those of `self`; `pointer` is how a kernel calls the address of a tensor;
    kernels are named as `seed` has it."""

    seed: str
    words: Mapping[str, str]
    attributes: Mapping[str, str]
    pointer: str

    def of(self, name: str) -> str:
        """What a plain name becomes; what is none stays."""
        if name in self.words:
            return self.words[name]
        if name.endswith("_kernel"):
            return kernel_name(Random(f"{self.seed} {name}"), usual=name)
        if name.endswith("_ptr") and name.removesuffix("_ptr") in self.words:
            return self.pointer.format(self.words[name.removesuffix("_ptr")])
        stem = name.rstrip("0123456789")
        return self.words[stem] + name[len(stem) :] if stem in ("tmp", "in_ptr", "extra") else name

    def renamed(self, text: str) -> str:
        """`text` with every plain name replaced."""

        def other(match: re.Match[str]) -> str:
            attribute, name, given = match.groups()
            if attribute is not None:
                return f"self.{self.attributes.get(attribute, attribute)}"
            if name is None or (given is not None and "BLOCK" not in name):
                return match.group()
            return f"{self.of(name)}{given or ''}"

        return _PIECE.sub(other, text)


def draw_problem_naming(seed: str) -> Naming:
    """Names in a problem: of its tensors, its sizes and what its module keeps."""
    rng, used = Random(f"{seed} problem"), set[str]()
    words = _drawn(((name, TENSORS) for name in PLAIN_TENSORS), rng, used=used)
    words |= _drawn(((name, SIZES) for name in PLAIN_SIZES if name not in words), rng, used=used)
    attributes = _drawn(ATTRIBUTES.items(), rng, used=set())
    return Naming(seed=seed, words=words, attributes=attributes, pointer="{}_ptr")


def draw_answer_naming(problem: Naming, seed: str) -> Naming:
    """Names in an answer to that problem: tensors and arguments as there, its own things anew."""
    rng = Random(f"{seed} answer")
    words = {name: problem.words[name] for name in (*PLAIN_TENSORS, *ARGUMENTS)}
    words |= _drawn(((name, pool) for name, pool in LOCALS.items() if name not in words), rng, used=set(words.values()))
    words[HELPER] = helper_name(rng)
    return replace(problem, seed=seed, words=words, pointer=rng.choice(POINTERS))


def helper_name(rng: Random) -> str:
    """Of hundreds."""
    return rng.choice(LONE_VERBS) if rng.random() < 0.2 else f"{rng.choice(VERBS)}_{rng.choice(OBJECTS)}"


def kernel_name(rng: Random, *, usual: str) -> str:
    """Of hundreds; now and then the usual one."""
    if rng.random() < _KEPT_KERNELS:
        return usual
    return f"{rng.choice(KERNEL_FIRSTS)}_{rng.choice(KERNEL_SECONDS)}{rng.choice(KERNEL_ENDS)}"


def _drawn(pools: Iterable[tuple[str, Sequence[str]]], rng: Random, *, used: set[str]) -> dict[str, str]:
    """A word for each name, none twice nor any of `used`, which grows."""
    words: dict[str, str] = {}
    for name, pool in pools:
        word = name if rng.random() < _KEPT else rng.choice(pool)
        while word in used:
            word = rng.choice(pool) if rng.random() < 0.9 else f"{rng.choice(pool)}_{len(used)}"
        used.add(word)
        words[name] = word
    return words
