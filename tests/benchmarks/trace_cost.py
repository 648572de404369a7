"""Measures what tracing one candidate costs: core-seconds, wall time and memory, once the sandbox is warm.

`python tests/benchmarks/trace_cost.py [--repeats 30]` from the repository's root; needs no GPU. The candidate is one
elementwise kernel, imported, run on fake CUDA tensors and compiled for sm_90 each time (every child has a fresh Triton
cache). `new` are candidates whose kernel no candidate had before, so that a second child compiles it from its text;
`known` ones have the kernel of the first. Core-seconds are user and system time of the children and of the processes
they started; memory is a child's peak resident set, most of it shared with the warm parent. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem
from tests.judge_settings import judge_settings

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2.0
def get_inputs():
    return [torch.randn(1024, 1024)]
def get_init_inputs():
    return []
"""
CANDIDATE = """
import torch
import triton
import triton.language as tl


@triton.jit
def scaled_relu(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(y_ptr + offsets, tl.maximum(x, 0.0) * 2.0, mask=mask)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        scaled_relu[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
"""
SETTINGS = judge_settings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    problem = Problem(id="scaled_relu", source=PROBLEM, origin=__file__)
    factors = range(2, 2 + options.repeats)
    new = [candidate_of(problem, CANDIDATE.replace("* 2.0", f"* {factor}.0")) for factor in factors]
    known = [candidate_of(problem, CANDIDATE) for _ in factors]
    with Tracer(SETTINGS) as tracer:
        start = time.monotonic()
        tracer.spec(problem)
        warm_up = time.monotonic() - start
        traced = {
            name: [tracer.trace(problem, candidate) for candidate in candidates]
            for name, candidates in (("new", new), ("known", known))
        }
    figures = {"repeats": options.repeats, "warm_up_seconds": round(warm_up, 2)}
    print(json.dumps(figures | {name: cost(t) for name, t in traced.items()} | {"environment": environment.record()}))


def candidate_of(problem: Problem, source: str) -> Candidate:
    return Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)


def cost(traced: Sequence[Traced]) -> dict[str, object]:
    """Medians and largest figures of some traces."""
    if (failure := next((t.failure for t in traced if t.failure is not None), None)) is not None:
        raise SystemExit(f"a candidate did not trace: {failure}")
    cores = [t.cpu_seconds for t in traced]
    stages = {name: [t.stage_seconds[name] for t in traced] for name in ("trace", "check", "compile")}
    return {
        "core_seconds": {"median": round(statistics.median(cores), 3), "max": round(max(cores), 3)},
        "wall_seconds": {name: round(statistics.median(seconds), 4) for name, seconds in stages.items()},
        "peak_rss_mib": max(t.max_rss_bytes for t in traced) >> 20,
    }


if __name__ == "__main__":
    main()
