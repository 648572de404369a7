"""The commands `judge` and `trace`: judge programs that somebody names, outside any run.

Knows nothing of sampling, searches or run folders.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from agent import wording
from agent.config import JudgeConfig, RayConfig
from agent.pairs import Pair, PairsError, judge_pairs, read_candidate, read_pairs, read_problem
from agent.plan_view import plan_text
from agent.pool import Pool, PoolError, SerialPool
from agent.progress import PLAIN_SECONDS
from sandbox import environment
from sandbox.feedback import render_feedback
from sandbox.plan import decode
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, JudgeSettings, Problem, Status, Verdict

if TYPE_CHECKING:
    from sandbox.judge import Traced


def settings_for(options: Mapping[str, str | int | None], *, seed: int) -> JudgeSettings:
    """The judge settings of a configuration that says only `options`; those that are None keep their default."""
    config = JudgeConfig.model_validate({key: value for key, value in options.items() if value is not None})
    return config.settings(seed, gpu_available=environment.gpu_usable())


def judge_one(problem_path: Path, candidate_path: Path, *, settings: JudgeSettings, as_json: bool) -> int:
    problem = read_problem(problem_path)
    candidate = read_candidate(candidate_path, problem_id=problem.id)
    tell_start(f"judging {candidate_path.name} on {problem.id}")
    verdict = asyncio.run(one_verdict(problem, candidate, settings=settings))
    print(json.dumps(verdict.to_json()) if as_json else wording.verdict_text(verdict))
    return 0


def tell_start(what: str) -> None:
    print(f"{what}; starting the sandbox, some seconds ...", file=sys.stderr)


async def one_verdict(problem: Problem, candidate: Candidate, *, settings: JudgeSettings) -> Verdict:
    pool = SerialPool(settings)
    try:
        return await pool.judge(problem, candidate)
    finally:
        await pool.close()


def judge_many(pairs_path: Path, *, out: Path, jobs: int | None, settings: JudgeSettings) -> int:
    """Writes one verdict a line to `out` as they come. Not 0 if some pair got none."""
    pairs = read_pairs(pairs_path)
    try:
        file = out.open("w", encoding="utf-8")
    except OSError as error:
        raise PairsError(f"--out {out}: {error.strerror}") from error
    with file:
        tell_start(f"judging {len(pairs)} pairs")
        desk = _Desk(file=file, num_pairs=len(pairs))
        asyncio.run(judge_on_pool(pairs, jobs=jobs, settings=settings, desk=desk))
    return desk.close()


async def judge_on_pool(pairs: Sequence[Pair], *, jobs: int | None, settings: JudgeSettings, desk: _Desk) -> None:
    pool = open_pool(settings, jobs=jobs)
    try:
        await judge_pairs(pairs, pool=pool, on_verdict=desk.write, on_fault=desk.note_fault)
    finally:
        await pool.close()


def open_pool(settings: JudgeSettings, *, jobs: int | None) -> Pool:
    """One job is done in this process. More need processes of their own, as torch's random state is one a process."""
    if jobs == 1:
        return SerialPool(settings)
    from agent.ray_pool import RayPool

    judges = None if settings.mode == "replay" else jobs  # replaying, there is one a GPU
    return RayPool(settings, RayConfig(trace_workers=jobs, judges=judges))


class _Desk:
    """Where verdicts arrive: writes each to the file and says on standard error how far things are."""

    def __init__(self, *, file: TextIO, num_pairs: int) -> None:
        self._file = file
        self._num_pairs = num_pairs
        self._num_by_status: Counter[Status] = Counter()
        self._exit_code = 0
        self._told_at = time.monotonic()

    def write(self, pair: Pair, verdict: Verdict) -> None:
        self._file.write(json.dumps({"id": pair.id} | wording.verdict_json(verdict)) + "\n")
        self._file.flush()
        self._num_by_status[verdict.status] += 1
        if time.monotonic() - self._told_at >= PLAIN_SECONDS:
            self.tell()

    def note_fault(self, pair: Pair, error: PoolError | ProblemFailed) -> None:
        """A fault of ours outweighs one of a problem, which is the user's."""
        self._exit_code = 1 if isinstance(error, PoolError) else self._exit_code or 2
        print(f"kernelloop: pair {pair.id}: no verdict: {error}", file=sys.stderr)

    def tell(self) -> None:
        self._told_at = time.monotonic()
        done = self._num_by_status.total()
        print(f"judged {done}/{self._num_pairs} | {wording.statuses_text(self._num_by_status)}", file=sys.stderr)

    def close(self) -> int:
        """Says how it ended, and the exit code."""
        self.tell()
        return self._exit_code


def trace(problem_path: Path, candidate_path: Path, *, settings: JudgeSettings) -> int:
    """Shows the candidate's plan, or why there is none."""
    problem = read_problem(problem_path)
    candidate = read_candidate(candidate_path, problem_id=problem.id)
    tell_start(f"tracing {candidate_path.name}")
    traced = traced_by_itself(problem, candidate, settings=settings)
    if traced.plan is not None:
        print(f"plan {traced.plan_hash}")
        print(plan_text(decode(traced.plan)))
    if traced.status is not None and traced.failure is not None:
        print(f"status {traced.status}")
        print(render_feedback(traced.status, traced.failure))
    return 0


def traced_by_itself(problem: Problem, candidate: Candidate, *, settings: JudgeSettings) -> Traced:
    from sandbox.judge import Tracer  # here, because it brings torch

    tracer = Tracer(settings)
    try:
        return tracer.trace(problem, candidate)
    finally:
        tracer.close()
