"""Packing of kernel arguments, and what a failed driver call means; on a GPU, that arguments of every kind arrive."""

from __future__ import annotations

import ctypes
import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sandbox.cuda_driver import CudaDriver, ParameterBlock, pack_scalar, parameter_sizes, scratch_pointers
from sandbox.cuda_fault import CudaFault, DeviceMemoryFault, DriverFault, LaunchFault, StickyFault, fault_named
from sandbox.occupancy import occupancy
from sandbox.plan import Kernel, LaunchStep, Plan, decode
from sandbox.tracer import Traced
from sandbox.types import Status

Trace = Callable[[str, str], Traced]


@pytest.mark.parametrize(
    ("kind", "value", "packed"),
    [
        ("i1", True, b"\x01"),
        ("i8", -1, b"\xff"),
        ("u8", 200, b"\xc8"),
        ("i32", -2, b"\xfe\xff\xff\xff"),
        ("i32", 2**32 + 5, b"\x05\x00\x00\x00"),
        ("i64", -(2**63), b"\x00" * 7 + b"\x80"),
        ("u64", 2**64 - 1, b"\xff" * 8),
        ("fp32", 1.5, struct.pack("<f", 1.5)),
        ("f32", 1e300, struct.pack("<f", math.inf)),
        ("fp32", 3, struct.pack("<f", 3.0)),
        ("fp64", 0.1, struct.pack("<d", 0.1)),
        ("fp16", 0.1, struct.pack("<e", 0.1)),
        ("bf16", 1.0078124, b"\x80\x3f"),  # Triton truncates: nearest would be 1.0078125
    ],
)
def test_scalars_are_packed_as_tritons_launcher_does(kind: str, value: float, packed: bytes) -> None:
    assert pack_scalar(kind, value) == packed


@pytest.mark.parametrize(
    ("kind", "value"), [("fp16", 1e6), ("fp64", 10**400), ("fp32", 10**400)], ids=("fp16", "fp64", "fp32")
)
def test_a_scalar_that_cannot_be_passed_is_the_candidates_fault(kind: str, value: float) -> None:
    with pytest.raises(LaunchFault, match=kind):
        pack_scalar(kind, value)


def test_the_driver_finds_each_argument_at_its_address() -> None:
    block = ParameterBlock([(0x1234).to_bytes(8, "little"), struct.pack("<f", 2.5), b"\x01"])
    addresses = (ctypes.c_void_p * 3).from_address(block.address)
    assert ctypes.c_uint64.from_address(addresses[0]).value == 0x1234  # type: ignore[arg-type]
    assert ctypes.c_float.from_address(addresses[1]).value == 2.5  # type: ignore[arg-type]
    assert ctypes.c_int8.from_address(addresses[2]).value == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(("found", "trailing"), [([8, 4], 0), ([8, 4, 8], 1), ([8, 4, 8, 8], 2)])
def test_scratch_pointers_are_counted_from_the_cubin(found: list[int], trailing: int) -> None:
    assert scratch_pointers([8, 4], found, name="k") == trailing


@pytest.mark.parametrize("found", [[8], [8, 8], [8, 4, 4], [8, 4, 8, 8, 8]])
def test_a_cubin_that_reads_more_than_is_passed_is_refused(found: list[int]) -> None:
    with pytest.raises(LaunchFault, match="kernel k takes"):
        scratch_pointers([8, 4], found, name="k")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS", StickyFault),
        ("CUDA_ERROR_INVALID_VALUE", LaunchFault),
        ("CUDA_ERROR_NO_BINARY_FOR_GPU", LaunchFault),
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceMemoryFault),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", DriverFault),
        ("CUDA_ERROR_UNKNOWN", DriverFault),
    ],
)
def test_only_what_a_candidate_can_cause_is_charged_to_it(name: str, kind: type[CudaFault]) -> None:
    fault = fault_named(name, "kernel k")
    assert type(fault) is kind
    assert "kernel k" in str(fault) and "CUDA_ERROR" not in str(fault)
    assert str(pickle.loads(pickle.dumps(fault))) == str(fault)


def test_sticky_results_have_a_status() -> None:
    fault = fault_named("CUDA_ERROR_ASSERT", "kernel k")
    assert isinstance(fault, StickyFault) and fault.status is Status.LAUNCH_ERROR


ARGUMENTS = """
@triton.jit
def arguments(y_ptr, n, big, flag, scale, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = n.to(tl.float64) + big.to(tl.float64) + tl.where(flag, 0.5, 0.0) + scale.to(tl.float64)
    tl.store(y_ptr + i, value + i * 0.0)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty(64, dtype=torch.float64, device=x.device)
        arguments[(1,)](y, -7, 2**40, True, 0.25, BLOCK=64)
        return y
"""


@pytest.fixture(scope="module")
def driver() -> CudaDriver:
    return CudaDriver()


def kernel_of(traced: Traced) -> tuple[Plan, Kernel, LaunchStep]:
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    (step,) = plan.steps
    assert isinstance(step, LaunchStep)
    return plan, plan.kernels[step.kernel], step


@pytest.mark.gpu
def test_integers_flags_and_floats_arrive(trace: Trace, sources: dict[str, str], driver: CudaDriver) -> None:
    import torch

    _, kernel, step = kernel_of(trace(sources["relu"], sources["head"] + ARGUMENTS))
    y = torch.empty(64, dtype=torch.float64, device="cuda")
    loaded = driver.load(kernel)
    loaded.prepare(step, lambda _: y.data_ptr())(torch.cuda.current_stream().cuda_stream)
    driver.synchronise()
    assert y.tolist() == [-7 + 2**40 + 0.5 + 0.25] * 64
    assert loaded.num_registers == kernel.num_registers
    assert sum(parameter_sizes(kernel)) > 0
    loaded.unload()


@pytest.mark.gpu
@pytest.mark.parametrize("shared_bytes", [0, 20 << 10, 60 << 10, 90 << 10])
def test_occupancy_is_what_the_driver_says(
    trace: Trace, sources: dict[str, str], driver: CudaDriver, shared_bytes: int
) -> None:
    import torch

    _, kernel, _ = kernel_of(trace(sources["relu"], sources["relu_answer"]))
    kernel = replace(kernel, shared_bytes=shared_bytes)
    major, minor = torch.cuda.get_device_capability()
    ours = occupancy(
        capability=10 * major + minor,
        registers=kernel.num_registers,
        shared_bytes=shared_bytes,
        num_warps=kernel.num_warps,
    )
    loaded = driver.load(kernel)
    query = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
    theirs = driver.call(query, loaded.function, 32 * kernel.num_warps, shared_bytes, subject="its occupancy")
    loaded.unload()
    assert ours is not None and ours.num_blocks == theirs


@pytest.mark.gpu
@pytest.mark.parametrize("change", [{"entry": "absent"}, {"params": ()}, {"cubin": b"\x7fELF" + b"\0" * 200}])
def test_a_kernel_that_cannot_be_loaded_is_the_candidates_fault(
    trace: Trace, sources: dict[str, str], driver: CudaDriver, change: dict[str, Any]
) -> None:
    _, kernel, _ = kernel_of(trace(sources["relu"], sources["relu_answer"]))
    with pytest.raises(LaunchFault):
        driver.load(replace(kernel, **change))
    driver.synchronise()


@pytest.mark.gpu
@pytest.mark.parametrize("change", [{"shared_bytes": 10**9}, {"num_warps": 64}])
def test_a_launch_beyond_the_hardware_is_the_candidates_fault(
    trace: Trace, sources: dict[str, str], driver: CudaDriver, change: dict[str, Any]
) -> None:
    import torch

    _, kernel, step = kernel_of(trace(sources["relu"], sources["relu_answer"]))
    memory = torch.zeros(1 << 16, device="cuda")
    with pytest.raises(LaunchFault):
        loaded = driver.load(replace(kernel, **change))
        loaded.prepare(step, lambda _: memory.data_ptr())(torch.cuda.current_stream().cuda_stream)
    driver.synchronise()
