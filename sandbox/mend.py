"""Applies findings to a text: a candidate mended by rules, without a model.

Pure text to text. Whether the result is right is for the judge, as with any candidate.
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.types import Finding


def mended(source: str, findings: Iterable[Finding]) -> str:
    """`source` with every replacement in its place. Of two that overlap the one that begins first holds; a finding that
    does not fit the text is left out."""
    parts: list[str] = []
    at = 0
    for finding in _in_order(findings):
        if finding.start < at or source[finding.start : finding.end] != finding.found:
            continue
        assert finding.instead is not None
        parts += (source[at : finding.start], finding.instead)
        at = finding.end
    return "".join([*parts, source[at:]])


def rules(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The rules whose findings have a replacement, each once, in the order of the text."""
    return tuple(dict.fromkeys(finding.rule for finding in _in_order(findings)))


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Those with a replacement, each edit once."""
    unique = {(f.start, f.end, f.instead): f for f in findings if f.instead is not None}
    return sorted(unique.values(), key=lambda f: (f.start, f.end))
