"""Python text to a syntax tree, from any thread.

Knows nothing of what the text is for.
"""

from __future__ import annotations

import ast
import threading
import warnings

# CPython 3.11 has one count of depth for all threads that build trees. Where a collection runs a finalizer in the midst
# of it, another thread gets its turn, and one of them is told SystemError("AST constructor recursion depth mismatch").
# Warning filters are the process's too.
_ONE_AT_A_TIME = threading.Lock()


def parse(source: str) -> ast.Module:
    """`ast.parse` without warnings. Raises SyntaxError, ValueError (null bytes), RecursionError or MemoryError."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings, which must not depend on our warning filters
        return ast.parse(source)


def parse_quietly(source: str) -> ast.Module | None:
    """The syntax tree, or None if the source does not parse."""
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
