"""Shows what a candidate wrote as HTML: highlighted, as a difference, or plain. All of it is hostile text.

Decides nothing. Every character goes through `visible` and is escaped; the only tags are our own spans.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, String

MAX_CHARACTERS = 40_000  # of one text: a program that is longer is cut here, and named as cut
MAX_DIFF_LINES = 1_500  # of either side: finding a difference takes the square of it
CONTEXT_LINES = 3

# Class in the style sheet by kind of token; anything else has no span. The first that holds counts.
_KINDS = (
    (Comment, "c"),
    (String, "s"),
    (Number, "n"),
    (Keyword, "k"),
    (Name.Decorator, "d"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Name.Builtin, "b"),
)


def visible(text: str) -> str:
    """Line ends and tabs stay; whatever else cannot be seen (control characters, turns of the writing direction, lone
    surrogates) becomes a replacement character, so that a text reads as what it is."""
    lines = text.replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in lines)


def cut(text: str) -> str:
    """At most `MAX_CHARACTERS`, saying so."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n[{len(text) - MAX_CHARACTERS} more characters are left out here]"


def highlighted(source: str) -> Markup:
    """Python, each line in a span of its own so that the style sheet can number them."""
    lines: list[list[Markup]] = [[]]
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(visible(cut(source))):
        name = next((name for token, name in _KINDS if kind in token), None)
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines.append([])
            if piece:
                shown = escape(piece)
                lines[-1].append(shown if name is None else Markup('<span class="{}">{}</span>').format(name, shown))
    if not lines[-1]:
        lines.pop()
    return Markup("").join(Markup('<span class="line">{}</span>\n').format(Markup("").join(line)) for line in lines)


def difference(before: str, after: str) -> Markup | None:
    """Unified, or None where either side is too long to compare."""
    old, new = visible(before).splitlines(), visible(after).splitlines()
    if max(len(old), len(new)) > MAX_DIFF_LINES:
        return None
    return Markup("").join(_difference_lines(old, new))


def _difference_lines(old: list[str], new: list[str]) -> Iterator[Markup]:
    for number, line in enumerate(difflib.unified_diff(old, new, lineterm="", n=CONTEXT_LINES)):
        if number < 2:  # the names of files that there are not
            continue
        kind = {"+": "added", "-": "removed", "@": "place"}.get(line[0], "same")
        yield Markup('<span class="{}">{}</span>\n').format(kind, line)
