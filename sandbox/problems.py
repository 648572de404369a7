"""Reads problems in KernelBench form from a file, a folder, a glob or a KernelBench checkout.

Knows nothing of torch: a problem's source is parsed, never run. Files that are not problems are told one by one.
"""

from __future__ import annotations

import ast
import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.syntax import parse
from sandbox.types import Problem

NEEDED_FUNCTIONS = ("get_inputs", "get_init_inputs")
MAX_SOURCE_BYTES = 1 << 20

# Level 4 of KernelBench downloads its models when run, so it is read only when asked for by number.
KERNELBENCH_LEVELS = (1, 2, 3)

_LEVEL_FOLDER = re.compile(r"level(\d+)")
_NUMBERED_STEM = re.compile(r"\d+_.+")


class ProblemError(ValueError):
    """A path that gives no problems. The message is one line that names the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFault:
    """A file that is not a problem, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def load_problems(path: str | Path, *, levels: Sequence[int] | None = None) -> list[Problem]:
    """Every problem at `path`; raises ProblemError if there is none or if one of the files is at fault."""
    problems, faults = scan_problems(path, levels=levels)
    if faults:
        more = f" (and {len(faults) - 1} more files at fault)" if len(faults) > 1 else ""
        raise ProblemError(f"{faults[0]}{more}")
    return problems


def scan_problems(path: str | Path, *, levels: Sequence[int] | None = None) -> tuple[list[Problem], list[ProblemFault]]:
    """Every problem at `path` and every file that is at fault, both in the order of their paths.

    `path` is one .py file, a folder of them, a glob, or a KernelBench checkout; `levels` picks levels of a checkout.
    Raises ProblemError if the path leads to no file at all.
    """
    files = _find_files(Path(path), levels=levels)
    problems: list[Problem] = []
    faults: list[ProblemFault] = []
    owners: dict[str, Path] = {}
    for file, problem_id in zip(files, _choose_ids(files), strict=True):
        outcome = _read_problem(file, problem_id=problem_id)
        if isinstance(outcome, Problem) and problem_id in owners:
            outcome = ProblemFault(path=str(file), reason=f"id {problem_id!r} already belongs to {owners[problem_id]}")
        if isinstance(outcome, Problem):
            owners[problem_id] = file
            problems.append(outcome)
        else:
            faults.append(outcome)
    return problems, faults


def form_fault(source: str) -> str | None:
    """Why `source` is not a problem in KernelBench form, or None if it is one."""
    try:
        tree = parse(source)
    except SyntaxError as error:
        return f"does not parse: {error.msg} (line {error.lineno})"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"does not parse: {error or type(error).__name__}"
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = [] if any(isinstance(n, ast.ClassDef) and n.name == "Model" for n in tree.body) else ["class Model"]
    missing += [f"{name}()" for name in NEEDED_FUNCTIONS if name not in functions]
    if missing:
        return f"lacks {' and '.join(missing)} at top level"
    for name in NEEDED_FUNCTIONS:
        if demanded := _num_required_arguments(functions[name].args):
            return f"{name}() must be callable without arguments, but demands {demanded}"
    return None


def _num_required_arguments(arguments: ast.arguments) -> int:
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional + sum(default is None for default in arguments.kw_defaults)


def _read_problem(file: Path, *, problem_id: str) -> Problem | ProblemFault:
    try:
        raw = file.read_bytes()
    except OSError as error:
        return ProblemFault(path=str(file), reason=f"cannot be read: {error.strerror}")
    if len(raw) > MAX_SOURCE_BYTES:
        return ProblemFault(path=str(file), reason=f"is larger than {MAX_SOURCE_BYTES} bytes")
    try:
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return ProblemFault(path=str(file), reason=f"is not UTF-8 (byte {error.start})")
    if reason := form_fault(source):
        return ProblemFault(path=str(file), reason=reason)
    return Problem(id=problem_id, source=source, origin=file.as_posix())


def _find_files(path: Path, *, levels: Sequence[int] | None) -> list[Path]:
    if path.is_dir() and (root := _checkout_root(path)) is not None:
        return _checkout_files(root, levels=levels)
    if levels is not None:
        raise ProblemError(f"{path}: levels can only be picked from a KernelBench checkout, which this is not")
    if path.is_file():
        return [path]
    if path.is_dir():
        return _python_files(path.iterdir(), where=path)
    if glob.has_magic(str(path)):
        return _python_files((Path(match) for match in glob.glob(str(path), recursive=True)), where=path)
    raise ProblemError(f"{path}: no such file or folder")


def _python_files(paths: Iterable[Path], *, where: Path) -> list[Path]:
    files = [p for p in paths if p.suffix == ".py" and not p.name.startswith((".", "_")) and p.is_file()]
    if not files:
        raise ProblemError(f"{where}: no .py file there")
    return sorted(files, key=_natural_order)


def _natural_order(path: Path) -> tuple[tuple[int, str], ...]:
    """Sorts 2_x before 10_x, as the numbers of KernelBench are meant."""
    pieces = re.findall(r"\d+|\D+", path.as_posix())
    return tuple((int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces)


def _checkout_root(path: Path) -> Path | None:
    """The folder that holds level1, if `path` is a KernelBench checkout or the KernelBench folder inside one."""
    return next((root for root in (path / "KernelBench", path) if (root / "level1").is_dir()), None)


def _checkout_files(root: Path, *, levels: Sequence[int] | None) -> list[Path]:
    matches = {folder: _LEVEL_FOLDER.fullmatch(folder.name) for folder in root.iterdir() if folder.is_dir()}
    folders = {int(match[1]): folder for folder, match in matches.items() if match}
    wanted = [level for level in KERNELBENCH_LEVELS if level in folders] if levels is None else list(levels)
    if unknown := [level for level in wanted if level not in folders]:
        raise ProblemError(f"{root}: no level {unknown[0]}; levels there: {', '.join(map(str, sorted(folders)))}")
    if not wanted:
        raise ProblemError(f"{root}: no level was picked; levels there: {', '.join(map(str, sorted(folders)))}")
    return [file for level in dict.fromkeys(wanted) for file in _python_files(folders[level].iterdir(), where=root)]


def _choose_ids(files: Sequence[Path]) -> list[str]:
    """The stem of each file (with its level, in KernelBench); files that share one are told apart by their folder."""
    short = [_short_id(file) for file in files]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else _safe(f"{file.parent.name}_{name}")
        for file, name in zip(files, short, strict=True)
    ]


def _short_id(file: Path) -> str:
    folder = file.parent.name
    if _LEVEL_FOLDER.fullmatch(folder) and _NUMBERED_STEM.fullmatch(file.stem):
        return _safe(f"{folder}_{file.stem}")
    return _safe(file.stem)


def _safe(name: str) -> str:
    """`name` with everything that `Problem.id` refuses made an underscore."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
