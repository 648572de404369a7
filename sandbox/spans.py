"""Where syntax stands in a text, in characters: `ast` counts columns in UTF-8 bytes.

Knows nothing of what the text means.
"""

from __future__ import annotations

import ast
import bisect
import re

from sandbox.types import Finding

_LINE_END = re.compile(r"\r\n?|\n")  # what Python's parser takes for one
_CLOSING_BRACKET = re.compile(r"\s*\)")


class Spans:
    """The places of the nodes of one source text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = [line.encode() for line in _LINE_END.split(source)]
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(source))]

    def at(self, line: int, column: int) -> int:
        """The offset of `column`, in UTF-8 bytes, of `line`, which counts from 1."""
        return self._starts[line - 1] + len(self._lines[line - 1][:column].decode())

    def start(self, node: ast.expr | ast.stmt | ast.alias | ast.arg) -> int:
        return self.at(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.alias | ast.arg) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.end_lineno, node.end_col_offset)

    def end_of_argument(self, node: ast.expr, call: ast.Call) -> int:
        """The end of an argument of `call`, with the brackets around it, which `ast` leaves out."""
        end, last = self.end(node), self.end(call) - 1
        while match := _CLOSING_BRACKET.match(self.source, end, last):
            end = match.end()
        return end

    def text(self, node: ast.expr | ast.stmt) -> str:
        return self.source[self.start(node) : self.end(node)]

    def line_start(self, line: int) -> int:
        return self._starts[line - 1]

    def line_of(self, offset: int) -> int:
        """The line, from 1, that holds the character at `offset`."""
        return bisect.bisect_right(self._starts, offset)

    def finding(
        self, rule: str, node: ast.expr | ast.stmt | ast.alias, *, instead: str | None, message: str
    ) -> Finding:
        """A finding on the whole of `node`."""
        return self.finding_at(rule, self.start(node), self.end(node), instead=instead, message=message)

    def finding_at(self, rule: str, start: int, end: int, *, instead: str | None, message: str) -> Finding:
        found = self.source[start:end]
        return Finding(rule=rule, start=start, end=end, found=found, instead=instead, message=message)
