"""Calibrates problems, and judges their references against themselves: PyTorch's own answer, traced as a candidate.

`python tests/benchmarks/reference_check.py PROBLEMS [--levels 1,2] [--seeds 3] [--seconds 330] [--time] [--out
checks.jsonl] [--skip earlier.jsonl] [--known earlier.jsonl] [--shard 1/3]` from the repository's root. Needs torch
and triton, nothing else. On a GPU machine plans are replayed, without a GPU those that are small enough are run on
the CPU. Each problem is calibrated (null programs must fail on it), then its `Model` is handed in as its own
`ModelNew` under the policy "any": its trace must give a plan, and the plan's replay must agree with the float64
reference. With `--time` it is timed against eager PyTorch, which is itself: speedups should be 1. Prints each problem
that is not admitted or does not pass, then a table; tracing runs on all cores beside the one GPU. `--seconds` stops
in good order, and `--skip` goes on from there. Calibrating alone may be shared out among several of these
(`--shard`); timing must have the GPU to itself, and `--known` spares it what they found.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import queue
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.gpu_judge import GpuJudge
from sandbox.judge import Calibrator, ProblemFailed, SandboxError, Traced, Tracer, open_judge
from sandbox.problem_check import Admission, check_problem
from sandbox.problems import scan_problems
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Operator, Problem, Verdict
from tests.judge_settings import LIMITS, judge_settings

_LIMITS = dataclasses.replace(LIMITS, wall_seconds=120, cpu_seconds=120, memory_bytes=32 << 30, output_bytes=2 << 30)
_AHEAD = 64  # traces that wait for the judge
_NEAR = 0.02  # |speedup - 1| of a reference timed against itself

Spec = Mapping[str, Any] | ProblemFailed | SandboxError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """One problem, described and traced as its own candidate. `traced` is None where describing failed."""

    problem: Problem
    candidate: Candidate
    spec: Spec
    traced: Traced | SandboxError | None


def settings(*, num_seeds: int, timed: bool) -> JudgeSettings:
    """Policy "any"; without a GPU plans of up to 4 GiB, which hold no kernels, are run on the CPU."""
    gpu = environment.gpu_usable()
    return judge_settings(
        mode="replay" if gpu else "interpret", num_seeds=num_seeds, policy="any", min_kernel_share=0.0,
        trace_limits=_LIMITS, interpret_limits=dataclasses.replace(_LIMITS, file_bytes=2 << 30),
        interpret_max_bytes=4 << 30, interpret_max_programs=0, timing_rounds=60 if timed else 0, timing_seconds=1.0,
    )  # fmt: skip


def trace_all(todo: queue.Queue[Problem], done: queue.Queue[Reference], chosen: JudgeSettings) -> None:
    """Describes and traces problems' references as candidates until none is left."""
    with Tracer(chosen) as tracer:
        while True:
            try:
                problem = todo.get_nowait()
            except queue.Empty:
                return
            source = problem.source + "\n\nModelNew = Model\n"
            candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
            spec: Spec
            traced: Traced | SandboxError | None = None
            try:
                spec = tracer.spec(problem)
            except (ProblemFailed, SandboxError) as error:
                spec = error
            else:
                try:
                    traced = tracer.trace(problem, candidate)
                except SandboxError as error:
                    traced = error
            done.put(Reference(problem=problem, candidate=candidate, spec=spec, traced=traced))


def check(
    problems: list[Problem], *, judge: Calibrator, chosen: JudgeSettings, seconds: float
) -> Iterator[dict[str, Any]]:
    """One finding a problem, in the order in which they are traced, until all are done or `seconds` have passed."""
    start = time.monotonic()
    todo: queue.Queue[Problem] = queue.Queue()
    done: queue.Queue[Reference] = queue.Queue(maxsize=_AHEAD)
    for problem in problems:
        todo.put(problem)
    for _ in range(max(1, environment.num_cores() - 2)):
        threading.Thread(target=trace_all, args=(todo, done, chosen), daemon=True).start()
    for _ in problems:
        left = seconds - (time.monotonic() - start)
        try:
            reference = done.get(timeout=max(left, 0.0))
        except queue.Empty:
            return
        if left <= 0:
            return
        yield finding(reference, judge=judge, chosen=chosen)


def finding(reference: Reference, *, judge: Calibrator, chosen: JudgeSettings) -> dict[str, Any]:
    """What calibration and then the verdict on the reference itself say."""
    start = time.monotonic()
    checked = check_problem(reference.problem, reference.spec, judge=judge, settings=chosen, precision="ieee")
    told = checked.to_json() | {"status": None, "error_ratios": None, "speedup": None}
    if checked.admission is Admission.ADMITTED:
        told |= judged(reference, judge)
    return told | {"seconds_in_all": round(time.monotonic() - start, 2)}


def judged(reference: Reference, judge: Calibrator) -> dict[str, Any]:
    """The verdict on the reference as a candidate."""
    if not isinstance(reference.traced, Traced):
        return {"status": "our_fault", "reason": str(reference.traced)}
    try:
        verdict: Verdict = judge.judge(reference.problem, reference.candidate, reference.traced)
    except (ProblemFailed, SandboxError) as error:
        return {"status": "our_fault", "reason": str(error)}
    reason = None if verdict.failure is None else f"{verdict.failure.error_class}: {verdict.failure.message}"[:300]
    ratios = verdict.correctness and [verdict.correctness.max_error_ratio, verdict.correctness.rms_error_ratio]
    stages = {name: round(seconds, 3) for name, seconds in verdict.stage_seconds.items()}
    performance = verdict.performance
    return {
        "status": verdict.status.value, "reason": reason, "error_ratios": ratios, "stage_seconds": stages,
        "labels": verdict.labels, "speedup": performance and performance.speedup,
        "runtime_us": performance and performance.runtime_us,
    }  # fmt: skip


def table(lines: list[dict[str, Any]], *, num_problems: int, seconds: float) -> str:
    """The counts, the time a problem takes, and how near to 1 references timed against themselves come."""
    admissions = collections.Counter(str(line["admission"]) for line in lines)
    statuses = collections.Counter(line["status"] for line in lines if line["status"] is not None)
    rows = [
        f"{len(lines)} of {num_problems} problems in {seconds:.0f} s: {dict(admissions)}, verdicts {dict(statuses)}"
    ]
    calibrated = [line["calibration"] for line in lines if line["calibration"] is not None]
    if calibrated:
        costs = sorted(calibration["seconds"] for calibration in calibrated)
        nulls = sum(calibration["num_nulls"] for calibration in calibrated)
        rejected = sum(calibration["num_rejected"] for calibration in calibrated)
        rows.append(f"null programs rejected: {rejected} of {nulls}")
        rows.append(f"seconds of calibration: median {statistics.median(costs):.2f}, "
                    f"90th percentile {costs[int(0.9 * (len(costs) - 1))]:.2f}, most {costs[-1]:.2f}")  # fmt: skip
    speedups = [line["speedup"] for line in lines if line["speedup"]]
    if speedups:
        near = sum(abs(speedup - 1) <= _NEAR for speedup in speedups)
        rows.append(f"A/A: {near} of {len(speedups)} within {_NEAR:.0%} of 1 ({near / len(speedups):.1%}), "
                    f"from {min(speedups):.3f} to {max(speedups):.3f}")  # fmt: skip
    return "\n".join(rows)


def finished(line: Mapping[str, Any]) -> bool:
    """Whether an earlier finding stands, so that its problem need not be checked again. What did not fit may do so
    without another process on the GPU."""
    no_room = "does not fit into the GPU's memory" in (line["reason"] or "")
    return "our_fault" not in (line["admission"], line["status"]) and not no_room


def learn(judge: Calibrator, problems: list[Problem], earlier: Path) -> None:
    """Gives the judge the calibrations that an earlier run of the same problems found."""
    assert isinstance(judge, GpuJudge)
    keys = {problem.id: problem.key for problem in problems}
    for line in map(json.loads, earlier.read_text().splitlines()):
        if line["calibration"] is not None and line["problem_id"] in keys:
            judge._calibrations[keys[line["problem_id"]], "ieee"] = line["calibration"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--levels", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--seeds", type=int, default=3, help="cases a problem, before calibration adds any")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--time", action="store_true", help="time each reference against itself")
    parser.add_argument("--skip", type=Path, help="an earlier --out: its problems are not checked again, but counted")
    parser.add_argument("--known", type=Path, help="an earlier --out: its calibrations are taken as they are")
    parser.add_argument(
        "--shard", type=lambda text: tuple(map(int, text.split("/"))), default=(1, 1), help="1/3 is the first of three"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    problems, faults = scan_problems(options.problems, levels=options.levels)
    for fault in faults:
        print(f"not loaded: {fault}")
    lines: list[dict[str, Any]] = []
    if options.skip is not None:
        earlier = [json.loads(line) for line in options.skip.read_text().splitlines()]
        lines = [line for line in earlier if finished(line)]
    known, num_problems = {line["problem_id"] for line in lines}, len(problems)
    part, num_parts = options.shard
    problems = [problem for problem in problems if problem.id not in known][part - 1 :: num_parts]
    chosen = settings(num_seeds=options.seeds, timed=options.time)
    judge = open_judge(chosen, device=0 if chosen.mode == "replay" else None)
    if options.known is not None:
        learn(judge, problems, options.known)
    for line in check(problems, judge=judge, chosen=chosen, seconds=options.seconds):
        lines.append(line)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        if line["status"] != "passed":
            print(f"{line['problem_id']}: {line['admission']}: {line['status']}: {line['reason']}", flush=True)
        if len(lines) % 25 == 0:
            print(f"-- {len(lines)} after {time.monotonic() - start:.0f} s", flush=True)
    judge.close()
    print(json.dumps(environment.record()))
    print(table(lines, num_problems=num_problems, seconds=time.monotonic() - start), flush=True)
    os._exit(0)  # the threads that still trace hold warm processes, which end with this one


if __name__ == "__main__":
    main()
