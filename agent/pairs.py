"""Judges programs named on the command line: one, or a file of (problem, candidate) pairs in parallel.

Knows nothing of sampling, searches or run folders. A pool does the judging; what a verdict says is passed on unchanged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.pool import Pool, PoolError
from sandbox.extract import extract, with_model_alias
from sandbox.problems import ProblemError, load_problems
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Operator, Problem, Verdict

PAIR_KEYS = ("id", "problem", "candidate")
ANSWER_SUFFIXES = (".md", ".txt")  # a model's answer as it was: the program is still to be taken out


class PairsError(ValueError):
    """A file or a line of it is not usable: the user's to mend. One line naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One program to judge, read and ready."""

    id: str
    problem: Problem
    candidate: Candidate


def read_problem(path: Path) -> Problem:
    """The single problem in a file. Raises ProblemError."""
    if path.is_dir():
        raise ProblemError(f"{path}: is a folder; a problem file is needed here")
    return load_problems(path)[0]


def read_candidate(path: Path, *, problem_id: str) -> Candidate:
    """The program in a file: Python as it stands, a model's answer (.md, .txt) after extraction. Raises PairsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise PairsError(f"{path}: {reason}") from error
    if path.suffix.lower() not in ANSWER_SUFFIXES:
        source, _ = with_model_alias(text)
        return Candidate(problem_id=problem_id, source=source, operator=Operator.DRAFT)
    found = extract(text, finish_reason=None)
    return Candidate(
        problem_id=problem_id, source=found.source or "", operator=Operator.DRAFT, truncated=found.truncated
    )


def read_pairs(path: Path) -> list[Pair]:
    """Every pair of a JSONL file; relative paths count from the current folder. Raises PairsError naming file and line.

    Everything is read before anything is judged, so that a mistake on the last line costs no work.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PairsError(f"{path}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from error
    problems: dict[str, Problem] = {}
    pairs: dict[str, Pair] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            pair = read_pair(raw, problems=problems)
        except ValueError as error:
            raise PairsError(f"{path}:{number}: {error}") from error
        if pair.id in pairs:
            raise PairsError(f"{path}:{number}: id {pair.id!r} stands on an earlier line too")
        pairs[pair.id] = pair
    if not pairs:
        raise PairsError(f"{path}: holds no pair; a line is {{{', '.join(json.dumps(k) for k in PAIR_KEYS)}}}")
    return list(pairs.values())


def read_pair(raw: str, *, problems: dict[str, Problem]) -> Pair:
    """One line. `problems` holds those read so far, by path, and gains this one. Raises ValueError."""
    line = pair_line(raw)
    name = line["problem"]
    if name not in problems:
        problems[name] = read_problem(Path(name))
    problem = problems[name]
    return Pair(
        id=line["id"], problem=problem, candidate=read_candidate(Path(line["candidate"]), problem_id=problem.id)
    )


def pair_line(raw: str) -> dict[str, str]:
    """The fields of one line. Raises ValueError."""
    known = ", ".join(PAIR_KEYS)
    try:
        line = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(line, dict):
        raise ValueError(f"must be an object with the keys {known}")
    if unknown := sorted(set(line) - set(PAIR_KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r}; known: {known}")
    for key in PAIR_KEYS:
        if not isinstance(line.get(key), str) or not line[key]:
            raise ValueError(f"{key}: must be a text that is not empty; keys: {known}")
    return line


async def judge_pairs(
    pairs: Sequence[Pair],
    *,
    pool: Pool,
    on_verdict: Callable[[Pair, Verdict], None],
    on_fault: Callable[[Pair, PoolError | ProblemFailed], None],
) -> None:
    """Judges all pairs, as many at once as the pool can use, and reports each as it comes."""
    waiting = iter(pairs)

    async def work() -> None:
        for pair in waiting:  # all workers are on one thread, so they can share the iterator
            try:
                verdict = await pool.judge(pair.problem, pair.candidate)
            except (PoolError, ProblemFailed) as error:
                on_fault(pair, error)
            else:
                on_verdict(pair, verdict)

    async with asyncio.TaskGroup() as group:
        for _ in range(pool.capacity):
            group.create_task(work())
