"""Whole programs with descriptors made on the host, traced and interpreted: which pass, what others are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.tracer import Traced
from sandbox.types import Status, Verdict
from tests.sandbox.described import doubling

Trace = Callable[[str, str], Traced]
Judge = Callable[[str, str], Verdict]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("TensorDescriptor(x, [41, 32], [32, 1], [16, 32])", "reaches byte 5248 of a buffer of 5120"),
        ("TensorDescriptor(x, [20, 32], [80, 1], [16, 32])", "reaches byte"),
        ("TensorDescriptor(x[0, 1:], [31], [1], [16])", "multiple of 16 bytes"),
        ("TensorDescriptor(x.cpu(), [40, 32], [32, 1], [16, 32])", "cpu tensor"),
    ],
)
def test_what_does_not_fit_its_tensor_is_told_where_it_is_launched(trace: Trace, made: str, message: str) -> None:
    problem, source = doubling("float32")
    rank_one = "x[0, 1:]" in made
    source = source.replace('TensorDescriptor.from_tensor(x, [16, 32], padding="zero")', made)
    source = source.replace("x_desc.load([row, 0])", "x_desc.load([row])[:, None] + tl.zeros((ROWS, 32), tl.float32)") \
        if rank_one else source  # fmt: skip
    source = source.replace("x_desc.shape[1]", "x_desc.shape[0]").replace("x_desc.strides[0]", "y_desc.strides[0]")
    traced = trace(problem, source)
    assert traced.status is Status.TRACE_ERROR and traced.failure is not None
    assert message in traced.failure.message
    assert traced.failure.source_line is not None and traced.failure.source_line.startswith("doubled[")


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int32"])
def test_a_right_answer_passes_and_shapes_arrive(verdict: Judge, dtype: str) -> None:
    told = verdict(*doubling(dtype))
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton"


def test_a_wrong_answer_does_not(verdict: Judge) -> None:
    problem, source = doubling("float32")
    told = verdict(problem, source.replace("x_desc.load([row, 0])", "x_desc.load([row + 1, 0])"))
    assert told.status is Status.WRONG_VALUES, told.feedback


def test_a_narrower_shape_leaves_the_rest_unwritten(verdict: Judge) -> None:
    problem, source = doubling("float32")
    narrow = "TensorDescriptor(y, [39, 32], [32, 1], [16, 32])"
    told = verdict(problem, source.replace("TensorDescriptor.from_tensor(y, [16, 32])", narrow))
    assert told.status is Status.WRONG_VALUES, told.feedback


def test_an_input_written_through_a_descriptor_is_seen(verdict: Judge) -> None:
    problem, source = doubling("float32")
    loaded = "x = x_desc.load([row, 0])"
    told = verdict(problem, source.replace(loaded, f"{loaded}\n    x_desc.store([row, 0], x + 1)"))
    assert told.status is Status.WRONG_VALUES and "input 0" in told.feedback, told.feedback


TF32 = """
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def product(a_desc, b_desc, c_desc):
    c_desc.store([0, 0], tl.dot(a_desc.load([0, 0]), b_desc.load([0, 0]), input_precision="PRECISION"))


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        c = torch.empty_like(a)
        product[(1,)](*(TensorDescriptor.from_tensor(t, [64, 64]) for t in (a, b, c)))
        return c
"""
PRODUCT = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return a @ b
def get_inputs():
    return [torch.randn(64, 64), torch.randn(64, 64)]
def get_init_inputs():
    return []
"""


@pytest.mark.parametrize(("precision", "status"), [("tf32", Status.REJECTED), ("ieee", Status.PASSED)])
def test_the_precision_of_what_descriptors_load_is_seen(verdict: Judge, precision: str, status: Status) -> None:
    told = verdict(PRODUCT, TF32.replace("PRECISION", precision))
    assert told.status is status, told.feedback


PADDED = """
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def padded(x_desc, x_ptr, y_ptr):
    x = LOAD
    rows, columns = tl.arange(0, 64)[:, None], tl.arange(0, 32)[None, :]
    tl.store(y_ptr + rows * 32 + columns, tl.where(x == x, x, 7.0))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty(64, 32, dtype=x.dtype, device=x.device)
        padded[(1,)](TensorDescriptor.from_tensor(x, [64, 32], padding="nan"), x, y)
        return y
"""
BLOCK_POINTER = """tl.load(
        tl.make_block_ptr(x_ptr, (40, 32), (32, 1), (0, 0), (64, 32), (1, 0)), boundary_check=(0, 1),
        padding_option="nan")"""


@pytest.mark.parametrize("load", ["x_desc.load([0, 0])", BLOCK_POINTER], ids=["descriptor", "block pointer"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_lies_beyond_a_tensor_is_nan_where_it_is_asked_for(verdict: Judge, dtype: str, load: str) -> None:
    problem, _ = doubling(dtype)
    told = verdict(problem.replace("x * 2", "torch.nn.functional.pad(x, (0, 0, 0, 24), value=7.0)"),
                   PADDED.replace("LOAD", load))  # fmt: skip
    assert told.status is Status.PASSED, told.feedback


def test_rounding_on_the_way_is_not_supported(trace: Trace) -> None:
    """In Triton 3.7 a descriptor may say so; before, it has no such word."""
    problem, source = doubling("float32")
    rounded = trace(problem, source.replace('padding="zero"', "round_f32_to_tf32=True"))
    assert rounded.status in (Status.UNTRACEABLE, Status.TRACE_ERROR), rounded.failure
    assert rounded.plan is None
