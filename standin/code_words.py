"""Where a text of code, or what a judge says of one, has words that may be called otherwise.

Works on text, since a broken attempt need not parse. A text comes apart into pieces: those at odd places are words that
whoever wrote it has named, those between them are everything else. Knows nothing of what a word is renamed to.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Set

from sandbox.feedback import LEADS, PATTERN_WORDS
from sandbox.missing_imports import ASSIGNMENTS, IMPORTS

# What the judge would have imported where nothing defines it: it says other things of these than of other names.
IMPORTED = IMPORTS.keys() | ASSIGNMENTS.keys()
FIXED = frozenset(
    {
        *keyword.kwlist, *dir(builtins), "Model", "ModelNew", "self", "forward", "get_inputs", "get_init_inputs",
        "torch", "nn", "F", "triton", "tl", "libdevice", "math", "tl_math", "triton_helpers", "extern_kernels",
        # of a module itself
        "training", "parameters", "buffers", "register_buffer", "register_parameter", "children", "modules", "eval",
        "train", "to", "apply", "half", "double", "cuda", "cpu",
    }
)  # fmt: skip
# Of a module itself these are attributes alone, and good names of functions.
_ATTRIBUTES_ALONE = frozenset({"apply", "half", "double", "cuda", "cpu", "to", "train", "eval", "children", "modules"})
_FIXED_NAMES = FIXED - (_ATTRIBUTES_ALONE - {*dir(builtins)})
_PIECE = re.compile(
    r'"""[\s\S]*?"""|"[^"\n]*"|\'[^\'\n]*\'|\#[^\n]*|^[ ]*(?:import|from)\ [^\n]*'
    r"|(?<![\w.])self\.([A-Za-z_]\w*)|(?<![\w.])([A-Za-z_]\w*)(?!\w)(=(?!=))?",
    re.M,
)
_DECLARED = re.compile(r"(\w+): ?tl\.constexpr")
_DEFAULT = re.compile(r"(\w+)(?:: ?[\w.]+ ?)?=(?!=)")
_DEFINITION = re.compile(r"^[ ]*def .*$", re.M)
_LINE_START = re.compile(r"^[ ]*([a-z_]\w*)=(?!=)", re.M)

_PLACE = re.compile(r"(\w+ at line \d+: )(.*)")
_WRITE = re.compile(r"(line \d+: [\w.]+ has no \w+: write )(.*)")
_PROSE = re.compile(
    r"Hint: |[\w ,]+: \S+ of the elements are wrong|All values are off by|(?:IllegalAccess|Outputs|Policy|Aliasing): "
    r"|InputChanged: |line \d+: |\w+ is used and never imported|\w+ is used and never defined|arange's "
)
_SENTENCES = frozenset({*LEADS.values(), *(words for words, _ in PATTERN_WORDS.values())})
_NAMED = re.compile(
    r"^\w+(?= is called and never defined)|(?<=; )\w+(?= is defined and never called)"
    r"|(?<=NameError: )\w+(?= is not defined)|(?<=name ')\w+(?=' is not defined)"
    r"|(?<=argument ')\w+|(?<=argument: ')\w+|(?<=arguments: ')\w+|(?<=' and ')\w+|(?<=, and ')\w+|(?<=', ')\w+"
    r"|(?<=variable ')\w+|(?<=variable )\w+(?= (?:has initial type|changed type))"
    r"|^\w+(?=\(\) (?:takes|got|missing))|(?<=Error: )\w+(?=\(\) (?:takes|got|missing))"
    r"|^\w+(?= counts \d)|(?<=elements \()\w+(?=\),)"
    r"|(?<='ModelNew' object has no attribute ')\w+|(?<=Keyword argument )\w+"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def words_in(texts: Iterable[str]) -> set[str]:
    """Every word, whatever it is."""
    return {word for text in texts for word in _WORD.findall(text)}


def declared_in(texts: Iterable[str]) -> set[str]:
    """The parameters that a launch names: what it calls them follows what the kernel does."""
    return {word for text in texts for word in _DECLARED.findall(text)}


def doubtful_in(texts: Iterable[str]) -> set[str]:
    """Words of which a call that names its arguments so could mean them or a library's: they are left as they are."""
    found: set[str] = set()
    for text in texts:
        for line in _DEFINITION.findall(text):
            found |= {word for word in _DEFAULT.findall(line) if word[0].islower()}
        found.update(_LINE_START.findall(text))
    return found


def split_code(text: str, *, declared: Set[str]) -> list[str]:
    """Pieces, as above. What a call names an argument is none unless it is declared, or in capitals as blocks are."""
    pieces, at = [], 0
    for match in _PIECE.finditer(text):
        group = 1 if match[1] is not None else 2
        word = match[group]
        if word is None or word in (FIXED if group == 1 else _FIXED_NAMES) or word.startswith("__"):
            continue
        if match[3] is not None and not word[0].isupper() and word not in declared:
            continue
        pieces += [text[at : match.start(group)], word]
        at = match.end(group)
    return [*pieces, text[at:]]


def split_feedback(text: str, *, words: Set[str], declared: Set[str]) -> tuple[list[str], set[str]]:
    """Pieces, as above, and which of `words` stand where it is not sure what they are: to be left as they are."""
    pieces, doubtful = [""], set[str]()
    for number, line in enumerate(text.split("\n")):
        pieces[-1] += "\n" * (number > 0)
        if (found := _PLACE.fullmatch(line) or _WRITE.fullmatch(line)) is not None:
            _extend(pieces, [found[1]])
            _extend(pieces, split_code(found[2], declared=declared))
        elif line in _SENTENCES or _PROSE.match(line):
            _extend(pieces, [line])
        else:
            named, at = list(_NAMED.finditer(line)), 0
            for match in named:
                doubtful |= words & words_in([line[at : match.start()]])
                _extend(pieces, [line[at : match.start()], match.group(), ""])
                at = match.end()
            doubtful |= words & words_in([line[at:]])
            _extend(pieces, [line[at:]])
    return pieces, doubtful


def _extend(pieces: list[str], more: list[str]) -> None:
    pieces[-1] += more[0]
    pieces += more[1:]
