"""Measures what tracing one candidate costs: core-seconds, wall time and memory, once the sandbox is warm.

`python tests/benchmarks/trace_cost.py [--repeats 30]` from the repository's root; needs no GPU. The candidate is one
elementwise kernel, imported, run on fake CUDA tensors and compiled for sm_90 each time (every child has a fresh Triton
cache). Core-seconds are user and system time of the child and of the processes it started; memory is its peak resident
set, most of it shared with the warm parent. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.tracer import Tracer
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
    candidate = Candidate(problem_id=problem.id, source=CANDIDATE, operator=Operator.DRAFT)
    with Tracer(SETTINGS) as tracer:
        start = time.monotonic()
        tracer.spec(problem)
        warm_up = time.monotonic() - start
        traced = [tracer.trace(problem, candidate) for _ in range(options.repeats)]
    if any(t.failure is not None for t in traced):
        raise SystemExit(f"the candidate did not trace: {traced[0].failure}")
    cores, walls = [t.cpu_seconds for t in traced], [t.stage_seconds["trace"] for t in traced]
    figures = {
        "repeats": options.repeats,
        "warm_up_seconds": round(warm_up, 2),
        "core_seconds": {"median": round(statistics.median(cores), 3), "max": round(max(cores), 3)},
        "wall_seconds": {"median": round(statistics.median(walls), 3), "max": round(max(walls), 3)},
        "peak_rss_mib": max(t.max_rss_bytes for t in traced) >> 20,
        "environment": environment.record(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
