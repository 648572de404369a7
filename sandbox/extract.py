"""Takes the program out of a model's answer.

Knows nothing of problems or of what the program does: it looks at fences and syntax only, and changes no line of code.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sandbox.syntax import parse_quietly

MODEL_NAME = "ModelNew"
CUT_OFF = ("length", "repetition")  # finish reasons; vLLM has the second

_FENCE = "```"
_TAG = re.compile(r"[A-Za-z0-9_+.-]*[ \t]*(?:\n|\Z)")
_CLOSING_LINE = re.compile(r"^[ \t]*```", re.MULTILINE)
_END_TOKENS = ("<|eot_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "</s>")
_THINKING_END = "</think>"
_THINKING_START = "<think>"
_CODE_LINE = re.compile(r"^(?:import \w|from [\w.]+ import |class \w|def \w|@triton)", re.MULTILINE)
_IMPORT_LINE = re.compile(r"^(?:import \w|from [\w.]+ import )", re.MULTILINE)


class Note(StrEnum):
    """What extraction had to do besides taking the text between two fences."""

    NO_FENCE = "no_fence"
    UNCLOSED_FENCE = "unclosed_fence"
    LENGTH_LIMIT = "length_limit"
    BEFORE_FENCE = "before_fence"  # the only fence closes the code: the prompt had opened it
    LATER_BLOCK = "later_block"  # the first block is no program, a later one is
    PROSE_DROPPED = "prose_dropped"
    THINKING_DROPPED = "thinking_dropped"
    END_TOKEN_DROPPED = "end_token_dropped"
    DEDENTED = "dedented"
    MODEL_ALIASED = "model_aliased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """The program in an answer (None: there is none), and whether the answer was cut off before its end."""

    source: str | None
    truncated: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    text: str
    closed: bool
    note: Note | None = None


def extract(text: str, *, finish_reason: str | None) -> Extraction:
    """The text after the first fence up to the next, or the whole text without one.

    `finish_reason` is the server's; "length" means that the answer was cut off, "repetition" that it went round in
    circles until it was, and a fence that never closes says so too.
    """
    notes: list[Note] = [Note.LENGTH_LIMIT] if finish_reason in CUT_OFF else []
    text = _without_wrapping(text.replace("\r\n", "\n").replace("\r", "\n"), notes=notes)  # as Python reads it
    blocks = list(_fenced_blocks(text))
    source = _from_blocks(text, blocks=blocks, notes=notes) if blocks else _from_bare_text(text, notes=notes)
    truncated = finish_reason in CUT_OFF or Note.UNCLOSED_FENCE in notes
    if source is None or not source.strip():
        return Extraction(source=None, truncated=truncated, notes=tuple(notes))
    source = _dedented(source, notes=notes).strip("\n") + "\n"
    source, aliased = with_model_alias(source)
    if aliased:
        notes.append(Note.MODEL_ALIASED)
    return Extraction(source=source, truncated=truncated, notes=tuple(notes))


def with_model_alias(source: str) -> tuple[str, bool]:
    """`source` with `ModelNew = XNew` appended, and True, if it has no ModelNew but one nn.Module class named *New."""
    tree = parse_quietly(source)
    if tree is None or binds_name(tree, MODEL_NAME):
        return source, False
    names = [name for name in _module_classes(tree) if name.endswith("New")]
    if len(names) != 1:
        return source, False
    return f"{source.rstrip()}\n\n\n{MODEL_NAME} = {names[0]}\n", True


def binds_name(tree: ast.Module, name: str) -> bool:
    """Whether module-level code (also inside `if`, `try`, `with`, loops) defines, assigns or imports `name`."""
    return any(_binds(statement, name) for statement in _module_level(tree.body))


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """In the order of the text. Without recursion: an `elif` chain may be deeper than Python's stack."""
    waiting = body[::-1]
    while waiting:
        statement = waiting.pop()
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        inside = [part for field in ("body", "orelse", "finalbody") for part in getattr(statement, field, [])]
        inside += [part for handler in getattr(statement, "handlers", []) for part in handler.body]
        waiting += reversed(inside)


def _binds(statement: ast.stmt, name: str) -> bool:
    match statement:
        case ast.ClassDef(name=bound) | ast.FunctionDef(name=bound):
            return bound == name
        case ast.Assign(targets=targets):
            return any(isinstance(n, ast.Name) and n.id == name for target in targets for n in ast.walk(target))
        case ast.AnnAssign(target=ast.Name(id=bound)):
            return bound == name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return any((alias.asname or alias.name) == name for alias in aliases)
    return False


def _module_classes(tree: ast.Module) -> list[str]:
    """Names of the classes that derive from nn.Module, directly or through another class of the same file."""
    found: list[str] = []
    for statement in _module_level(tree.body):
        if isinstance(statement, ast.ClassDef) and any(_is_module_base(base, known=found) for base in statement.bases):
            found.append(statement.name)
    return found


def _is_module_base(base: ast.expr, *, known: list[str]) -> bool:
    if isinstance(base, ast.Attribute):
        return base.attr == "Module"
    return isinstance(base, ast.Name) and (base.id == "Module" or base.id in known)


def _without_wrapping(text: str, *, notes: list[Note]) -> str:
    """`text` without the thinking before it and the special tokens after it."""
    if _THINKING_END in text:
        text = text.rpartition(_THINKING_END)[2]
        notes.append(Note.THINKING_DROPPED)
    elif text.lstrip().startswith(_THINKING_START):
        notes.append(Note.THINKING_DROPPED)
        return ""  # thought until the limit
    stripped = text.rstrip()
    while stripped.endswith(_END_TOKENS):
        token = next(token for token in _END_TOKENS if stripped.endswith(token))
        stripped = stripped.removesuffix(token).rstrip()
    if stripped != text.rstrip():
        notes.append(Note.END_TOKEN_DROPPED)
        text = stripped
    return text


def _fenced_blocks(text: str) -> Iterator[_Block]:
    """Each fenced block. A fence that starts a line closes before one in mid-line, as docstrings may hold backticks."""
    position, may_close_on_line = 0, True
    while (opening := text.find(_FENCE, position)) >= 0:
        tag = _TAG.match(text, opening + len(_FENCE))
        start = tag.end() if tag else opening + len(_FENCE)
        closing_line = _CLOSING_LINE.search(text, start) if may_close_on_line else None
        may_close_on_line = closing_line is not None  # where there is none, there is none further on
        end = closing_line.start() if closing_line else text.find(_FENCE, start)
        if end < 0:
            yield _Block(text=text[start:], closed=False)
            return
        yield _Block(text=text[start:end], closed=True)
        position = text.index(_FENCE, end) + len(_FENCE)


def _from_blocks(text: str, *, blocks: list[_Block], notes: list[Note]) -> str:
    first = blocks[0]
    before = _Block(text=text[: text.index(_FENCE)], closed=True, note=Note.BEFORE_FENCE)
    later = [_Block(text=b.text, closed=b.closed, note=Note.LATER_BLOCK) for b in blocks[1:]]
    chosen = next((block for block in (first, before, *later) if _is_program(block.text)), first)
    if chosen.note is not None:
        notes.append(chosen.note)
    if not chosen.closed:
        notes.append(Note.UNCLOSED_FENCE)
    return chosen.text


def _is_program(text: str) -> bool:
    """Whether `text` holds a class, whole or (if it does not parse) by the look of it."""
    tree = parse_quietly(textwrap.dedent(text))
    if tree is None:
        return re.search(r"^[ \t]*class \w+", text, re.MULTILINE) is not None
    return any(isinstance(statement, ast.ClassDef) for statement in _module_level(tree.body))


def _from_bare_text(text: str, *, notes: list[Note]) -> str | None:
    notes.append(Note.NO_FENCE)
    if parse_quietly(text) is not None:
        return text if _CODE_LINE.search(text) else None
    start = _IMPORT_LINE.search(text)
    if start and start.start() > 0 and parse_quietly(text[start.start() :]) is not None:
        notes.append(Note.PROSE_DROPPED)
        return text[start.start() :]
    return text if _CODE_LINE.search(text) else None


def _dedented(source: str, *, notes: list[Note]) -> str:
    """`source` moved to the left margin if every line of it is indented, as in an answer's bullet list."""
    first_line = source.lstrip("\n")
    if not first_line.startswith((" ", "\t")):
        return source
    dedented = textwrap.dedent(source)
    if dedented != source:
        notes.append(Note.DEDENTED)
    return dedented
