"""How much a model's answer is like one of the generator's, and the latter in the former's names.

Texts are compared with their names left open: a name that both have in the same places is the same. What an attempt
calls a thing is what it has most often where the answer has that thing, or has first. Knows nothing of judging.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher

from standin.naming import Naming

# An attribute, what a call names an argument, a name, a number, a line end with its indentation, a sign.
_PIECES = re.compile(r"\.[A-Za-z_]\w*|[A-Za-z_]\w*=(?!=)|[A-Za-z_]\w*|\d+(?:\.\d+)?|\n *|[^\w\s]")
_FIXED = frozenset(
    {
        "import", "from", "as", "class", "def", "return", "for", "in", "range", "self", "super", "None", "float",
        "torch", "nn", "triton", "tl", "libdevice", "ModelNew", "forward", "__init__",
    }
)  # fmt: skip
_OPEN, _OPEN_BLOCK = "a name", "a block="
_TAKEN = re.compile(r"def (?:forward|__init__)\(self(.*)\):")


def likeness(plain: str, attempt: str) -> float:
    """From 0 to 1, by their lines with all names left open."""
    return SequenceMatcher(None, _lines(plain), _lines(attempt), autojunk=False).ratio()


def named_as(attempt: str, plain: str, *, naming: Naming) -> str:
    """`plain`, an answer in the generator's names, in those of `attempt`; where that tells none, in those of `naming`.

    What `forward` and the module take is the problem's, and stays `naming`'s. No two things get one name.
    """
    taken = {name for match in _TAKEN.finditer(plain) for name in match.group(1).replace(",", " ").split()}
    words = {name: naming.of(name) for name in taken}
    names = dict.fromkeys(piece for piece in _PIECES.findall(plain) if _is_name(piece) and piece not in taken)
    agreed = {name: word for name, word in _agreed(attempt, plain).items() if name in names}
    for name, word in agreed.items():
        if word not in words.values():
            words[name] = word
    for name in names:
        word = naming.of(name)
        while name not in words and word in words.values():
            word += "_"
        words.setdefault(name, word)
    return replace(naming, words={**naming.words, **words}).renamed(plain)


def _agreed(attempt: str, plain: str) -> dict[str, str]:
    """For each name of `plain`, what `attempt` has in its places."""
    ours, theirs = _PIECES.findall(plain), _PIECES.findall(attempt)
    votes: dict[str, Counter[str]] = {}
    for block in SequenceMatcher(None, _masked(ours), _masked(theirs), autojunk=False).get_matching_blocks():
        for i in range(block.size):
            name, word = ours[block.a + i], theirs[block.b + i]
            if _is_name(name):
                votes.setdefault(name, Counter())[word] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in votes.items()}


def _lines(text: str) -> list[str]:
    return [" ".join(_masked(_PIECES.findall(line))) for line in text.splitlines()]


def _masked(pieces: list[str]) -> list[str]:
    return [_OPEN if _is_name(each) else _OPEN_BLOCK if _names_block(each) else each for each in pieces]


def _names_block(piece: str) -> bool:
    """Whether a launch names a block so: by the kernel's name for it, in capitals."""
    return piece[-1] == "=" and piece[0].isupper()


def _is_name(piece: str) -> bool:
    return piece.isidentifier() and piece not in _FIXED
