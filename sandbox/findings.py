"""What a candidate's text shows to be wrong: names, imports, devices, sizes and counts, each found by its own file.

Decides nothing: findings are told with a failure, and a candidate that passes has none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sandbox.count_literals import count_findings
from sandbox.device_index import device_indices
from sandbox.feedback import find_hint
from sandbox.launch_counts import wrong_counts
from sandbox.missing_imports import import_line, missing_imports
from sandbox.plan import Plan
from sandbox.replacements import Edit, Names, replacement
from sandbox.size_literals import AssertedSize, asserted_sizes, output_sizes
from sandbox.spans import Spans
from sandbox.syntax import parse_quietly
from sandbox.types import Failure, Finding, Status
from sandbox.undefined_helpers import undefined_helpers
from sandbox.unknown_names import Bindings, NameTable, UnknownName, unknown_names

UNKNOWN_NAME = "unknown_name"
MAX_FINDINGS = 64  # a verdict carries
MAX_SHOWN_CHARACTERS = 60
MAX_CHARACTERS = 100_000  # of a text that is searched; answers have some ten thousand
_MAX_LOOKED_AT = 4 * MAX_FINDINGS  # some are found twice


def find(
    source: str,
    *,
    table: NameTable,
    sizes: Sequence[AssertedSize] = (),
    plan: Plan | None = None,
    spec: Mapping[str, Any] | None = None,
) -> tuple[Finding, ...]:
    """All findings in `source`, or none of a text that is too long, too deep or too full of them: half of a mending may
    be worse than none. `sizes` are those at failed assertions, `plan` what tracing gave, with the problem's `spec`."""
    tree = parse_quietly(source) if len(source) <= MAX_CHARACTERS else None
    if tree is None:
        return ()
    try:
        found = list(islice(_found(tree, Spans(source), table, sizes, plan, spec), _MAX_LOOKED_AT))
    except (SyntaxError, RecursionError, MemoryError):  # it parses, and is nested too deeply or no program for all that
        return ()
    except ValueError:  # it holds a number that Python does not write out, or a name that it reads as another
        return ()
    unique = tuple(dict.fromkeys(found))
    return unique if len(unique) <= MAX_FINDINGS else ()


def _found(
    tree: ast.Module,
    spans: Spans,
    table: NameTable,
    sizes: Sequence[AssertedSize],
    plan: Plan | None,
    spec: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    yield from name_findings(tree, spans, table)
    yield from missing_imports(tree, spans)
    yield from undefined_helpers(tree, spans)
    yield from device_indices(tree, spans)
    yield from asserted_sizes(tree, spans, sizes)
    if plan is not None and spec is not None:
        yield from output_sizes(tree, spans, plan, spec)
        for wrong in wrong_counts(plan, spec):
            yield from count_findings(tree, spans, wrong)


def name_findings(tree: ast.Module, spans: Spans, table: NameTable) -> Iterator[Finding]:
    bindings = Bindings(tree, table)
    names = Names(bindings, table, import_at=spans.line_start(import_line(tree)))
    for unknown in unknown_names(tree, table, bindings):
        edits = replacement(unknown, names, spans)
        message = _message(unknown, None if edits is None else _rewritten(unknown, edits, spans))
        if edits is None:
            yield spans.finding(UNKNOWN_NAME, unknown.node, instead=None, message=message)
        for edit in edits or ():
            yield spans.finding_at(UNKNOWN_NAME, edit.start, edit.end, instead=edit.text, message=message)


def _rewritten(unknown: UnknownName, edits: Sequence[Edit], spans: Spans) -> str:
    """The call as it should be written, or where that is long the name alone."""
    named = [edit for edit in edits if edit.end > edit.start]
    whole = unknown.call if unknown.call is not None else unknown.node
    start, end = spans.start(whole), spans.end(whole)
    text, at = "", start
    for edit in sorted((e for e in edits if start <= e.start <= e.end <= end), key=lambda e: (e.start, e.end)):
        text += spans.source[at : edit.start] + edit.text
        at = edit.end
    text = " ".join((text + spans.source[at:end]).split())
    return text if len(text) <= MAX_SHOWN_CHARACTERS else named[0].text.strip()


def _message(unknown: UnknownName, instead: str | None) -> str:
    module = unknown.module.removeprefix("torch._inductor.select_algorithm.")
    told = f"line {unknown.node.lineno}: {module} has no {unknown.name}"
    if instead is not None:
        return f"{told}: write {instead}"
    failure = Failure(error_class="AttributeError", message=f"module '{module}' has no attribute '{unknown.name}'")
    hint = find_hint(Status.COMPILE_ERROR, failure)
    return told if hint is None else f"{told}. {hint}"
