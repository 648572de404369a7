"""Turns away what is no program, before a process is spent on it.

Knows nothing of what a program does: it parses, and never runs, imports or judges the code. Whether a Triton kernel is
used is seen in the plan, not in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.extract import MODEL_NAME, binds_name
from sandbox.syntax import parse
from sandbox.types import Failure, Status

MAX_SOURCE_CHARACTERS = 1 << 20
MAX_QUOTED_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenResult:
    """Why a candidate is not traced. `status` is NO_KERNEL (nothing to run) or REJECTED (cannot be read as Python)."""

    status: Status
    failure: Failure


def screen(source: str | None) -> ScreenResult | None:
    """What is wrong with `source` as a program text, or None if it can be traced."""
    if source is None or not source.strip():
        return _no_kernel("NoCode", "the answer holds no Python code")
    if len(source) > MAX_SOURCE_CHARACTERS:
        return _rejected(Failure(error_class="SourceTooLong", message=f"{len(source)} characters of source"))
    try:
        tree = parse(source)
    except SyntaxError as error:
        return _rejected(_syntax_failure(error, source=source))
    except (ValueError, RecursionError, MemoryError) as error:
        message = str(error) or "nested too deeply to parse"
        return _rejected(Failure(error_class="SyntaxError", message=message))
    if not binds_name(tree, MODEL_NAME):
        return _no_kernel("NoModelNew", f"the code defines no class {MODEL_NAME}")
    return None


def _no_kernel(error_class: str, message: str) -> ScreenResult:
    return ScreenResult(status=Status.NO_KERNEL, failure=Failure(error_class=error_class, message=message))


def _rejected(failure: Failure) -> ScreenResult:
    return ScreenResult(status=Status.REJECTED, failure=failure)


def _syntax_failure(error: SyntaxError, *, source: str) -> Failure:
    """The error with its line, taken from `source` itself: `error.text` is cut short for unclosed brackets."""
    lines = source.splitlines()
    number = error.lineno if error.lineno and 1 <= error.lineno <= len(lines) else None
    return Failure(
        error_class=type(error).__name__,
        message=error.msg,
        line_number=number,
        source_line=lines[number - 1].strip()[:MAX_QUOTED_CHARACTERS] if number else None,
    )
