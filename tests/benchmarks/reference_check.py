"""Runs problems' references against themselves: PyTorch's own answer, traced as a candidate, replayed and compared.

`python tests/benchmarks/reference_check.py PROBLEMS [--levels 1,2,3] [--seeds 3] [--out verdicts.jsonl]` from
the repository's root, on a GPU machine; without a GPU the plans are run on the CPU instead. Each problem's `Model` is
handed in as its own `ModelNew` under the policy "any": its trace must give a plan, and the plan's replay must agree
with the float64 reference under the problem's own tolerance. Nothing is timed. Prints each problem that fails with the
reason, then the counts; tracing runs on all cores beside the one GPU.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.judge import ProblemFailed, SandboxError, Traced, Tracer, open_judge
from sandbox.problems import scan_problems
from sandbox.types import Candidate, JudgeSettings, Operator, Problem
from tests.judge_settings import LIMITS, judge_settings

_LIMITS = dataclasses.replace(LIMITS, wall_seconds=120, cpu_seconds=120, memory_bytes=32 << 30, output_bytes=2 << 30)


def settings(num_seeds: int) -> JudgeSettings:
    """Policy "any", no timing; without a GPU plans of up to 4 GiB, which hold no kernels, are run on the CPU."""
    return judge_settings(
        mode="replay", num_seeds=num_seeds, policy="any", min_kernel_share=0.0, trace_limits=_LIMITS,
        interpret_limits=dataclasses.replace(_LIMITS, file_bytes=2 << 30), interpret_max_bytes=4 << 30,
        interpret_max_programs=0, timing_rounds=0,
    )  # fmt: skip


def trace_all(
    todo: queue.Queue[Problem], done: queue.Queue[tuple[Problem, Candidate, Traced | str]], num_seeds: int
) -> None:
    """Traces problems' references as candidates until none is left."""
    with Tracer(settings(num_seeds)) as tracer:
        while True:
            try:
                problem = todo.get_nowait()
            except queue.Empty:
                return
            source = problem.source + "\n\nModelNew = Model\n"
            candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
            try:
                done.put((problem, candidate, tracer.trace(problem, candidate)))
            except (ProblemFailed, SandboxError) as error:
                done.put((problem, candidate, str(error)))


def check(problems: list[Problem], *, num_seeds: int, out: Path | None) -> collections.Counter[str]:
    """Traces on all cores, judges on the first GPU; one line a failure, one JSON object a problem in `out`."""
    todo: queue.Queue[Problem] = queue.Queue()
    done: queue.Queue[tuple[Problem, Candidate, Traced | str]] = queue.Queue()
    for problem in problems:
        todo.put(problem)
    for _ in range(max(1, (os.cpu_count() or 2) - 2)):
        threading.Thread(target=trace_all, args=(todo, done, num_seeds), daemon=True).start()
    judge = open_judge(settings(num_seeds), device=0 if environment.gpu_usable() else None)
    counts: collections.Counter[str] = collections.Counter()
    for at in range(len(problems)):
        problem, candidate, traced = done.get()
        start = time.monotonic()
        line = {"id": problem.id, **_judged(judge, problem, candidate, traced)}
        line["seconds"] = round(time.monotonic() - start, 2)
        if out is not None:
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        counts[line["status"]] += 1
        if line["status"] != "passed":
            print(f"{problem.id}: {line['status']}: {line['reason']}", flush=True)
        if at % 25 == 24:
            print(f"-- {at + 1}/{len(problems)} {dict(counts)}", flush=True)
    judge.close()
    return counts


def _judged(judge: Any, problem: Problem, candidate: Candidate, traced: Traced | str) -> dict[str, Any]:
    if isinstance(traced, str):
        return {"status": "inadmissible", "reason": traced}
    try:
        verdict = judge.judge(problem, candidate, traced)
    except ProblemFailed as error:
        return {"status": "inadmissible", "reason": str(error)}
    except SandboxError as error:
        return {"status": "our_fault", "reason": str(error)}
    reason = "" if verdict.failure is None else f"{verdict.failure.error_class}: {verdict.failure.message}"
    ratios = verdict.correctness and [verdict.correctness.max_error_ratio, verdict.correctness.rms_error_ratio]
    stages = {name: round(seconds, 3) for name, seconds in verdict.stage_seconds.items()}
    return {"status": verdict.status.value, "reason": reason[:300], "error_ratios": ratios, "stage_seconds": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--levels", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--seeds", type=int, default=3, help="cases a problem; every second one is a stress case")
    parser.add_argument("--skip", type=Path, help="an earlier --out: problems that passed there are left out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    problems, faults = scan_problems(options.problems, levels=options.levels)
    for fault in faults:
        print(f"not loaded: {fault}")
    if options.skip is not None:
        earlier = [json.loads(line) for line in options.skip.read_text().splitlines()]
        passed = {line["id"] for line in earlier if line["status"] == "passed"}
        problems = [problem for problem in problems if problem.id not in passed]
    start = time.monotonic()
    counts = check(problems, num_seeds=options.seeds, out=options.out)
    print(json.dumps(environment.record()))
    print(f"{len(problems)} problems, {time.monotonic() - start:.0f} s: {dict(counts)}")


if __name__ == "__main__":
    main()
