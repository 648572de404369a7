"""Draws other words for those of a text, each of its own kind: from a pool of `words.py` that it may have come from.

What belongs together stays so: `tmp0` and `tmp1`, a tensor and the pointer named after it. Knows nothing of texts but
the roles of their words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from random import Random

from standin.naming import helper_name, kernel_name
from standin.word_roles import Roles
from standin.words import ATTRIBUTES, LOCALS, POINTERS, SIZES, TENSORS

# The judge reads these, where a kernel takes them: an attempt that fails keeps them.
READ = frozenset({"rnumel", "ynumel"})
_PLAIN = 0.3  # of words that have a plain one: as often as `naming.py` keeps it
_TRIES = 20  # at a word, and at all of them
_USUAL_KERNELS = ("fused_kernel", "kernel", "triton_kernel", "my_kernel", "forward_kernel")
_FORMS = tuple(dict.fromkeys(POINTERS))
_ENDS = {form: form.split("{}") for form in _FORMS}
# By such a name the judge knows a number of elements (sandbox/launch_counts.py).
COUNT = re.compile(r"xnumel|numel|(?:n|num|total)_?(?:elements?|elems?|els?)|n_total|total(?:_size)?|nelem(?:ents)?")
_COUNTS = (
    *("xnumel", "numel", "n_total", "total_size"),
    *(f"{head}_{end}" for head in ("n", "num", "total") for end in ("elements", "elems", "elem", "els", "el")),
)
_Pool = tuple[str | None, Sequence[str]]  # the plain word, if there is one, and all of its kind


def _pools(groups: Mapping[str, Sequence[str]]) -> dict[str, _Pool]:
    """For each word, the first group that has it."""
    found: dict[str, _Pool] = {}
    for plain, words in groups.items():
        for word in (plain, *words):
            found.setdefault(word, (plain, words))
    return found


_LOCAL = _pools(LOCALS)
_ATTRIBUTE = _pools(ATTRIBUTES)
_ALL_LOCALS = tuple(word for word in _LOCAL if word[0].islower())
_ALL_BLOCKS = tuple(word for plain, words in LOCALS.items() if "BLOCK" in plain for word in (plain, *words))
_KNOWN = {*_LOCAL, *_ATTRIBUTE, *TENSORS, *SIZES}


def redrawn(words: Iterable[str], *, roles: Roles, taken: Set[str], failed: bool, rng: Random) -> dict[str, str] | None:
    """Another word for each of `words`, none twice nor any of `taken`; None where some tries find none.

    With `failed`, what is told by its name to be a number of elements still is, and nothing else becomes so.
    """
    ordered = sorted(words)
    for number in range(_TRIES):
        wide = 2 * number >= _TRIES
        found = _Draw(ordered, roles=roles, taken=taken, failed=failed, wide=wide, rng=rng).all()
        if found is not None:
            return found
    return None


class _Draw:
    """`wide` draws locals from all of them: an attempt may have used up a kind."""

    def __init__(
        self, words: Sequence[str], *, roles: Roles, taken: Set[str], failed: bool, wide: bool, rng: Random
    ) -> None:
        self._words = words
        self._there = frozenset(words)
        self._roles = roles
        self._taken = taken
        self._failed = failed
        self._wide = wide
        self._rng = rng
        self._forms = dict(zip(_FORMS, rng.sample(_FORMS, len(_FORMS)), strict=True))
        self._made: dict[str, str] = {}
        self._used = set[str]()

    def all(self) -> dict[str, str] | None:
        found = {word: self._other(word) for word in self._words}
        new = set(found.values())
        alike = len(new) == len(found) and new.isdisjoint(self._taken)
        return found if alike and all(self._counts_alike(*each) for each in found.items()) else None

    def _other(self, word: str) -> str:
        if word not in self._made:
            self._made[word] = self._derived(word) or self._drawn(word)
            self._used.add(self._made[word])
        return self._made[word]

    def _derived(self, word: str) -> str | None:
        """Of a word that follows another one: a pointer, or one of several with numbers."""
        if word in _KNOWN or word in self._roles.kernels or word in self._roles.functions:
            return None
        for form, (head, tail) in _ENDS.items():
            stem = word[len(head) : len(word) - len(tail)]
            if word.startswith(head) and word.endswith(tail) and (stem in self._there or stem in _KNOWN):
                return self._forms[form].format(self._other(stem))
        stem = word.rstrip("0123456789")
        return self._other(stem) + word[len(stem) :] if len(stem) < len(word) and stem.strip("_") else None

    def _drawn(self, word: str) -> str:
        if word in self._roles.kernels:
            return self._fresh(lambda: kernel_name(self._rng, usual=self._rng.choice(_USUAL_KERNELS)), word)
        if word in self._roles.functions:
            return self._fresh(lambda: helper_name(self._rng), word)
        plain, pool = self._pool(word)
        if plain is not None and self._rng.random() < _PLAIN and self._free(plain, word):
            return plain
        return self._fresh(lambda: self._rng.choice(pool), word)

    def _pool(self, word: str) -> _Pool:
        roles = self._roles
        if self._failed and word in roles.given and COUNT.fullmatch(word):
            return None, _COUNTS
        if word in roles.attributes:
            return _ATTRIBUTE.get(word, (None, tuple(_ATTRIBUTE)))
        if word in roles.tensors:
            return None, TENSORS
        if word in roles.sizes:
            return None, SIZES
        if word in _LOCAL and not self._wide:
            return _LOCAL[word]
        if word in TENSORS or word in SIZES:
            return None, TENSORS if word in TENSORS else SIZES
        return None, _ALL_BLOCKS if word[0].isupper() else _ALL_LOCALS

    def _fresh(self, draw: Callable[[], str], word: str) -> str:
        """One that is free, if some tries find it; else one with a number."""
        found = draw()
        for _ in range(_TRIES):
            if self._free(found, word):
                return found
            found = draw()
        return f"{found}_{len(self._used)}"

    def _free(self, new: str, word: str) -> bool:
        return new not in self._taken and new not in self._used and self._counts_alike(word, new)

    def _counts_alike(self, word: str, new: str) -> bool:
        if not self._failed or word not in self._roles.given:
            return True
        return new not in READ and (COUNT.fullmatch(word) is None) == (COUNT.fullmatch(new) is None)
