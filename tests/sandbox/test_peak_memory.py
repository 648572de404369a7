"""What a plan takes at the least, against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.peak_memory import least_peak_bytes
from sandbox.plan import decode
from sandbox.tracer import Traced

MIB = 1 << 20
PROBLEM = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x + x.t()

def get_inputs():
    return [torch.randn(512, 512)]

def get_init_inputs():
    return []
"""


def test_buffers_stay_and_a_result_lies_beside_its_buffer(trace: Callable[[str, str], Traced]) -> None:
    traced = trace(PROBLEM, PROBLEM + "\nModelNew = Model\n")
    assert traced.plan is not None, traced.failure
    assert least_peak_bytes(decode(traced.plan)) == 3 * MIB  # input, sum and its buffer; a view has none


def test_what_a_kernel_is_given_is_counted_once(trace: Callable[[str, str], Traced], sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    assert least_peak_bytes(plan) == sum(storage.num_bytes for storage in plan.storages)
