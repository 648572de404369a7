"""The commands `judge` and `trace`: judge programs that somebody names, outside any run.

Knows nothing of sampling, searches or run folders.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, RenderableType

from agent import wording
from agent.blame import NOT_CORRECT_CODE
from agent.call_figure import with_python_call
from agent.config import ConfigError, JudgeConfig, RayConfig
from agent.evidence import Bundle, write_bundle
from agent.pairs import Pair, PairsError, judge_pairs, read_candidate, read_pairs, read_problem
from agent.plan_view import plan_text
from agent.pool import STARTING, Pool, PoolError, SerialPool
from agent.verdict_page import verdict_page
from agent.waiting import Waiting, interrupts_told
from sandbox import environment, strict_json
from sandbox.feedback import render_feedback
from sandbox.isolation import probe, standing
from sandbox.plan import decode
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Problem, Status, Verdict

if TYPE_CHECKING:
    from sandbox.judge import Traced

UNBROKEN_COLUMNS = 10_000  # of a page for a file or a pipe: no line of one is longer


def settings_for(options: Mapping[str, Any], *, seed: int) -> JudgeSettings:
    """The judge settings of a configuration that says only `options`; those that are None keep their default. Raises
    ConfigError."""
    config = JudgeConfig.model_validate({key: value for key, value in options.items() if value is not None})
    try:
        return config.settings(seed, gpu_available=environment.gpu_usable())
    except ConfigError as error:  # which names a key of a configuration, and an option was typed
        raise ConfigError(re.sub(r"^judge\.(\w+)", r"--\1", str(error))) from error


def judge_one(
    problem_path: Path,
    candidate_path: Path,
    *,
    settings: JudgeSettings,
    evidence: Path | None,
    python_call: bool,
    as_json: bool,
) -> int:
    """Shows the verdict; `evidence` is a folder to be made for its bundle, `python_call` also times one real call."""
    problem = read_problem(problem_path)
    candidate = read_candidate(candidate_path, problem_id=problem.id)
    check_options(settings, evidence=evidence, python_call=python_call)
    tell_start(f"judging {candidate_path.name} on {problem.id}")
    verdict, plan = asyncio.run(one_verdict(problem, candidate, settings=settings))
    if python_call:
        verdict = with_python_call(verdict, problem=problem, candidate=candidate, settings=settings)
    show_verdict(verdict, problem=problem, candidate=candidate, settings=settings, as_json=as_json)
    if evidence is not None:  # after the verdict is told, so that a full disk does not take it away
        bundle = Bundle(
            problem=problem,
            candidate=candidate,
            verdict=verdict,
            searching=None,
            plan=plan,
            settings=asdict(settings),
            environment=environment.record(isolation=probe()),
        )
        write_bundle(bundle, evidence)
    return exit_code(verdict)


def show_verdict(
    verdict: Verdict, *, problem: Problem, candidate: Candidate, settings: JudgeSettings, as_json: bool
) -> None:
    if as_json:
        print(strict_json.dumps(verdict.to_json()), flush=True)
        return
    layers = standing(settings.isolation)
    page = verdict_page(verdict, problem=problem, candidate=candidate, capability=settings.capability, layers=layers)
    show_page(page)


def check_options(settings: JudgeSettings, *, evidence: Path | None, python_call: bool) -> None:
    """Raises PairsError before anything is judged."""
    if evidence is not None:
        check_can_be_made(evidence)
    if python_call and settings.mode != "replay":
        raise PairsError("--python-call: needs a GPU, and there is none or --mode is interpret")


def check_can_be_made(folder: Path) -> None:
    """Makes the folder and removes it again: judging may take minutes, and may give nothing to put there. The folders
    above it stay. Raises PairsError."""
    if os.path.lexists(folder):
        raise PairsError(f"--evidence {folder}: is there already; name a folder to be made")
    try:
        folder.mkdir(parents=True)
        folder.rmdir()
    except OSError as error:
        raise PairsError(f"--evidence {folder}: cannot be made: {error.strerror}") from error


def exit_code(verdict: Verdict) -> int:
    return 0 if verdict.passed else NOT_CORRECT_CODE


def show_page(page: RenderableType) -> None:
    """On standard output; where that is no terminal, no line is broken or filled up."""
    if sys.stdout.isatty():
        Console().print(page)
        return
    text = io.StringIO()
    Console(file=text, width=UNBROKEN_COLUMNS).print(page)
    for line in text.getvalue().splitlines():
        print(line.rstrip())


def tell_start(what: str) -> None:
    print(f"{what}; starting the sandbox, some seconds ...", file=sys.stderr)


async def one_verdict(
    problem: Problem, candidate: Candidate, *, settings: JudgeSettings
) -> tuple[Verdict, bytes | None]:
    """And its plan."""
    with interrupts_told(), Waiting(STARTING) as waiting:
        pool = SerialPool(settings, on_stage=waiting.tell)
        try:
            return await pool.judge_with_plan(problem, candidate)
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
        with Waiting(f"judging {len(pairs)} pairs") as waiting:
            desk = _Desk(file=file, num_pairs=len(pairs), waiting=waiting)
            asyncio.run(judge_on_pool(pairs, jobs=jobs, settings=settings, desk=desk))
    return desk.close()


async def judge_on_pool(pairs: Sequence[Pair], *, jobs: int | None, settings: JudgeSettings, desk: _Desk) -> None:
    with interrupts_told():
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

    def __init__(self, *, file: TextIO, num_pairs: int, waiting: Waiting) -> None:
        self._file = file
        self._num_pairs = num_pairs
        self._waiting = waiting
        self._num_by_status: Counter[Status] = Counter()
        self._exit_code = 0

    def write(self, pair: Pair, verdict: Verdict) -> None:
        self._file.write(strict_json.dumps({"id": pair.id} | wording.verdict_json(verdict)) + "\n")
        self._file.flush()
        self._num_by_status[verdict.status] += 1
        self._waiting.tell(self._so_far())

    def note_fault(self, pair: Pair, error: PoolError | ProblemFailed) -> None:
        """A fault of ours outweighs one of a problem, which is the user's."""
        self._exit_code = 1 if isinstance(error, PoolError) else self._exit_code or 2
        print(f"kernelloop: pair {pair.id}: no verdict: {error}", file=sys.stderr)

    def _so_far(self) -> str:
        done = self._num_by_status.total()
        return f"judged {done}/{self._num_pairs} | {wording.statuses_text(self._num_by_status)}"

    def close(self) -> int:
        """Says how it ended, and the exit code."""
        print(self._so_far(), file=sys.stderr)
        return self._exit_code


def trace(problem_path: Path, candidate_path: Path, *, settings: JudgeSettings) -> int:
    """Shows the candidate's plan with the labels that it has before it is run, or why there is none. The exit code says
    which."""
    from sandbox.judge import precheck  # here, because it brings torch

    problem = read_problem(problem_path)
    candidate = read_candidate(candidate_path, problem_id=problem.id)
    tell_start(f"tracing {candidate_path.name}")
    traced = traced_by_itself(problem, candidate, settings=settings)
    if traced.plan is not None:
        print(f"plan {traced.plan_hash}")
        plan = decode(traced.plan)
        labels, _ = precheck(plan, settings)  # what may pass is for the judge to say
        print(plan_text(plan, labels=(*plan.labels, *labels)))
    if traced.status is not None and traced.failure is not None:
        print(f"status {traced.status}")
        print(render_feedback(traced.status, traced.failure))
    return 0 if traced.plan is not None else NOT_CORRECT_CODE


def traced_by_itself(problem: Problem, candidate: Candidate, *, settings: JudgeSettings) -> Traced:
    from sandbox.judge import Tracer  # here, because it brings torch

    with interrupts_told(), Waiting(STARTING), Tracer(settings) as tracer:
        return tracer.trace(problem, candidate)
