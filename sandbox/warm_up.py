"""A small problem of our own and its plan, judged once in a fresh process so that first use is paid for there.

torch imports much at first use, and CUDA loads its kernels and libraries one by one: together more than a second.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from sandbox.calibrate import calibrate
from sandbox.compare import compare, expect
from sandbox.plan import AtenStep, Plan, Storage, Value
from sandbox.reference import Reference
from sandbox.types import Pattern, Problem, Tolerance

PROBLEM = Problem(
    id="warm_up",
    source="""
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(32, 16)

    def forward(self, x, h):
        return torch.softmax(torch.relu(self.linear(x)), -1), torch.relu(h)

def get_inputs():
    return [torch.randn(16, 32), torch.randn(16, 16, dtype=torch.float16)]

def get_init_inputs():
    return []
""",
    origin="warm_up",
)
WEIGHTS = ("linear.weight", "linear.bias")
REQUEST: dict[str, Any] = {
    "spec": {
        "inputs": [{"tensor": 0}, {"tensor": 1}],
        "init_inputs": [],
        "tensors": [["float32", [16, 32], [32, 1]], ["float16", [16, 16], [16, 1]]],
        "weights": [["linear.weight", "float32", [16, 32]], ["linear.bias", "float32", [16]]],
        "outputs": None,
        "returned": None,
    },
    "secret": "none",
    "num_seeds": 3,
    "precision": "ieee",
    "alone": True,
}


def plan() -> Plan:
    """What tracing the problem's own module gives, without kernels."""
    tensors = (
        ("float32", (16, 32)), ("float16", (16, 16)), ("float32", (16, 32)), ("float32", (16,)),
        ("float32", (16, 16)), ("float32", (16, 16)), ("float32", (16, 16)), ("float16", (16, 16)),
    )  # fmt: skip

    def step(op: str, *args: Any, output: int) -> AtenStep:
        return AtenStep(op=f"aten.{op}.default", args=list(args), kwargs={}, outputs=(output,))

    x, h, weight, bias, product, positive = ({"tensor": index} for index in range(6))
    return Plan(
        storages=tuple(Storage(num_bytes=_num_bytes(*tensor), role="scratch") for tensor in tensors),
        values=tuple(
            Value(storage=at, dtype=dtype, shape=shape, stride=(*shape[1:], 1), offset=0, device="cuda")
            for at, (dtype, shape) in enumerate(tensors)
        ),
        kernels=(),
        init_steps=(),
        steps=(
            step("linear", x, weight, bias, output=4),
            step("relu", product, output=5),
            step("_softmax", positive, -1, False, output=6),
            step("relu", h, output=7),
        ),
        inputs=(0, 1),
        weights=((WEIGHTS[0], 2), (WEIGHTS[1], 3)),
        outputs={"tuple": [{"tensor": 6}, {"tensor": 7}]},
        labels=(),
    )


# Small and large tensors are sorted by different kernels, and a median sorts.
_WRONG_SIZES = (16, 256)


def wrong_answers_are_seen(device: torch.device) -> bool:
    """Whether answers that are all off by one factor are told as such. Describing takes kernels that nothing else
    loads."""
    for size in _WRONG_SIZES:
        for dtype in (torch.float32, torch.float16):
            right = torch.linspace(1.0, 2.0, size * size, device=device, dtype=dtype).reshape(size, size)
            wanted = expect("", right.double(), (right,), Tolerance(), recompute=None)
            failure = compare([right * 1.5], [wanted]).failure
            if failure is None or failure.mismatch is None or failure.mismatch.pattern is not Pattern.CONSTANT_RATIO:
                return False
    return True


def _num_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    item = 4 if dtype == "float32" else 2
    return item * shape[0] * (shape[1] if len(shape) > 1 else 1)


def on_cpu() -> float:
    """Has torch import what it imports at first use, without touching a GPU. Returns seconds."""
    start = time.monotonic()
    reference = Reference(PROBLEM, spec=REQUEST["spec"], device=torch.device("cpu"))
    found, _ = calibrate(reference, seeds=range(1, 9), num_cases=2, precision="ieee")
    if not found.admitted:
        raise RuntimeError(f"calibration does not admit a sound problem: {found.reason}")
    if not wrong_answers_are_seen(torch.device("cpu")):
        raise RuntimeError("a wrong answer is not told as what it is")
    for draw in (torch.Tensor.uniform_, torch.Tensor.normal_):  # shapes of random numbers are checked without drawing
        draw(torch.empty(2, device="meta"))
    return time.monotonic() - start
