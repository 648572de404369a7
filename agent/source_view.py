"""Shows what a candidate wrote as HTML: highlighted, as a difference, or plain. All of it is hostile text.

Decides nothing. Every character goes through `visible` and is escaped; the only tags are our own spans.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from markupsafe import Markup
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
    parts: list[str] = []  # strings and one Markup at the end: a page has a million of them
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(visible(cut(source))):
        if (name := _kind(kind)) is None:
            parts.append(escape(text, quote=False))
        else:  # a token may go over lines, a span may not
            pieces = (escape(piece, quote=False) for piece in text.split("\n"))
            parts.append("\n".join(f'<span class="{name}">{piece}</span>' if piece else "" for piece in pieces))
    return _numbered("".join(parts))


def numbered(source: str) -> Markup:
    """The same without colours, which take ten times as long."""
    return _numbered(escape(visible(cut(source)), quote=False))


def _numbered(markup: str) -> Markup:
    lines = markup.removesuffix("\n").split("\n")
    return Markup("".join(f'<span class="line">{line}</span>\n' for line in lines))


@cache
def _kind(token: Any) -> str | None:
    return next((name for ancestor, name in _KINDS if token in ancestor), None)


def difference(before: str, after: str) -> Markup | None:
    """Unified, or None where either side is too long to compare."""
    old, new = visible(before).splitlines(), visible(after).splitlines()
    if max(len(old), len(new)) > MAX_DIFF_LINES:
        return None
    return Markup("".join(_difference_lines(old, new)))


def _difference_lines(old: list[str], new: list[str]) -> Iterator[str]:
    for number, line in enumerate(difflib.unified_diff(old, new, lineterm="", n=CONTEXT_LINES)):
        if number < 2:  # the names of files that there are not
            continue
        kind = {"+": "added", "-": "removed", "@": "place"}.get(line[0], "same")
        yield f'<span class="{kind}">{escape(line, quote=False)}</span>\n'
