"""Measures a kernel replayed from a plan against the same kernel launched by Triton itself. Prints one JSON line.

Run on a GPU machine from the repository's root: `python tests/benchmarks/replay_launch.py`. Both sides run the same
source on the same tensors: the plan's cubin comes from a trace without a GPU, the other from Triton's compiler in this
process. They alternate; times are medians in microseconds over rounds, by CUDA events around one launch after L2 was
written over, and by CUDA graphs with event nodes. `host_us` is what one launch costs the host.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.capture import Flush, GraphTimer, StreamTimer, Timer
from sandbox.cuda_driver import CudaDriver, PreparedLaunch
from sandbox.plan import LaunchStep, decode
from sandbox.spread import spread
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem
from tests.judge_settings import judge_settings

CANDIDATE = """
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(a_ptr, b_ptr, y_ptr, n, scale, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    a = tl.load(a_ptr + offsets, mask=mask)
    b = tl.load(b_ptr + offsets, mask=mask)
    tl.store(y_ptr + offsets, a + scale * b, mask=mask)


def launch(a, b, y):
    n = y.numel()
    add_kernel[(triton.cdiv(n, 1024),)](a, b, y, n, 0.5, BLOCK=1024)


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        y = torch.empty_like(a)
        launch(a, b, y)
        return y
"""

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return a + 0.5 * b
def get_inputs():
    return [torch.rand({n}), torch.rand({n})]
def get_init_inputs():
    return []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to launch the kernel."""

    name: str
    launch: Callable[[], Any]


def replayed(n: int, driver: CudaDriver, tensors: list[torch.Tensor]) -> PreparedLaunch:
    """The launch of a plan that was traced in a child without a GPU."""
    problem = Problem(id="add", source=PROBLEM.format(n=n), origin="benchmark")
    candidate = Candidate(problem_id="add", source=CANDIDATE, operator=Operator.DRAFT)
    with Tracer(judge_settings()) as tracer:
        traced = tracer.trace(problem, candidate)
    if traced.plan is None:
        raise SystemExit(f"the candidate does not trace: {traced.failure}")
    plan = decode(traced.plan)
    (step,) = plan.steps
    assert isinstance(step, LaunchStep)
    pointers = [int(a) for a, (_, kind) in zip(step.args, plan.kernels[0].params, strict=True) if kind.startswith("*")]  # type: ignore[arg-type]
    addresses = {value: tensor.data_ptr() for value, tensor in zip(pointers, tensors, strict=True)}
    return driver.load(plan.kernels[step.kernel]).prepare(step, addresses.__getitem__)


def native(tensors: list[torch.Tensor], folder: Path) -> Callable[[], None]:
    """The same source, launched by Triton."""
    path = folder / "candidate.py"
    path.write_text(CANDIDATE)
    spec = importlib.util.spec_from_file_location("candidate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda: module.launch(*tensors)


def alternate(timers: dict[str, Timer], *, num_rounds: int) -> dict[str, float]:
    """Medians, and the ratio of the two with its 95 % interval."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(num_rounds + 20):
        for name in timers if turn % 2 else reversed(list(timers)):
            times[name].append(timers[name].measure_us())
    kept = {name: values[20:] for name, values in times.items()}
    ratio = spread([r / t for r, t in zip(kept["replay"], kept["triton"], strict=True)])
    medians = {f"{name}_us": round(statistics.median(values), 2) for name, values in kept.items()}
    return {
        **medians,
        "ratio": round(ratio.median, 4),
        "ratio_low": round(ratio.low, 4),
        "ratio_high": round(ratio.high, 4),
    }


def host_us(launch: Callable[[], Any]) -> float:
    """What enqueuing costs the host, with an empty queue each time."""
    times = []
    for _ in range(200):
        torch.cuda.synchronize()
        start = time.perf_counter()
        launch()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 2)


def measure(n: int, *, num_rounds: int) -> dict[str, Any]:
    """All figures for vectors of `n` floats."""
    device = torch.device("cuda", torch.cuda.current_device())
    driver = CudaDriver()
    flush = Flush(driver=driver, device=device)
    tensors = [torch.rand(n, device=device), torch.rand(n, device=device), torch.empty(n, device=device)]
    want = tensors[0] + 0.5 * tensors[1]
    prepared = replayed(n, driver, tensors)
    with tempfile.TemporaryDirectory() as folder:
        by_triton = native(tensors, Path(folder))
        sides = [
            Side(name="replay", launch=lambda: prepared(torch.cuda.current_stream().cuda_stream)),
            Side(name="triton", launch=by_triton),
        ]
        for side in sides:
            tensors[2].fill_(float("nan"))
            side.launch()
            if not torch.allclose(tensors[2], want):
                raise SystemExit(f"{side.name} gives a wrong answer")
        events: dict[str, Timer] = {side.name: StreamTimer(side.launch, flush=flush) for side in sides}
        graphs: dict[str, Timer] = {side.name: GraphTimer(side.launch, flush=flush) for side in sides}
        return {
            "bytes": 12 * n,
            "events": alternate(events, num_rounds=num_rounds),
            "graph": alternate(graphs, num_rounds=num_rounds),
            "host_us": {side.name: host_us(side.launch) for side in sides},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--floats", type=int, nargs="+", default=[1 << 20, 1 << 24, 1 << 26])
    arguments = parser.parse_args()
    result = {
        "gpu": environment.gpu()["gpu"],
        "driver": environment.gpu()["driver"],
        "torch": environment.version("torch"),
        "triton": environment.version("triton"),
        "rounds": arguments.rounds,
        "sizes": {str(n): measure(n, num_rounds=arguments.rounds) for n in arguments.floats},
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
