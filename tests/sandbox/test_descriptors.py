"""Descriptors made on the host: what a plan records and refuses of them, how kernels take them, what the driver is
told. Needs no GPU; what becomes of whole programs is in `test_descriptor_verdicts.py`."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sandbox import wire
from sandbox.compile_kernels import compiled
from sandbox.cuda_driver import (
    CudaDriver,
    ParameterBlock,
    packed_arguments,
    packed_descriptor,
    parameter_sizes,
    scratch_pointers,
)
from sandbox.descriptors import (
    TRITON_DTYPE,
    Descriptor,
    Lowered,
    TensorMap,
    block_of,
    fault_of,
    form_fault,
    form_from_json,
)
from sandbox.execute import Arena
from sandbox.kernel_recipe import recipe_of
from sandbox.plan import ITEM_BYTES, Kernel, LaunchStep, Plan, PlanError, decode, encode, plan_hash
from sandbox.plan_check import Work, dataflow, step_refs
from sandbox.runner import Runner
from sandbox.tensor_map import ENCODE_ARGUMENTS, MAP_ALIGN, MAP_BYTES, encoded, tiling
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem, Verdict
from sandbox.watchdog import Watchdog
from tests.sandbox.described import cubin_parameters, doubling

Trace = Callable[[str, str], Traced]
Judge = Callable[[str, str], Verdict]

_PARAMETERS_AT = 0x210  # where parameters of sm_90 begin in constant memory; offsets count from there


def make_problem(source: str) -> Problem:
    return Problem(id="doubled", source=source, origin="test")


def make_candidate(source: str) -> Candidate:
    return Candidate(problem_id="doubled", source=source, operator=Operator.DRAFT)


@pytest.fixture(scope="module")
def plan(trace: Trace) -> Plan:
    traced = trace(*doubling("float32", padding="nan"))
    assert traced.plan is not None, traced.failure
    return decode(traced.plan)


@pytest.fixture(scope="module")
def body(plan: Plan) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(encode(plan))
    return parsed


def the_launch(plan: Plan) -> tuple[LaunchStep, Kernel]:
    (step,) = [step for step in plan.steps if isinstance(step, LaunchStep)]
    return step, plan.kernels[step.kernel]


def test_a_launch_records_what_its_descriptors_are(plan: Plan) -> None:
    step, kernel = the_launch(plan)
    assert [kind for _, kind in kernel.params] == [
        "i32", "tensordesc<fp32[16, 32]>", "*i64", "tensordesc<fp32[16, 32]>", "fp32"
    ]  # fmt: skip
    x, y = step.args[1], step.args[3]
    assert isinstance(x, Descriptor) and isinstance(y, Descriptor)
    assert (x.shape, x.strides, x.padding, y.padding) == ((40, 32), (32, 1), "nan", "zero")
    assert x.base == plan.inputs[0]
    assert decode(encode(plan)) == plan
    assert dataflow(plan).work is Work.TRITON
    assert set(step_refs(plan, step)) == {x.base, y.base, step.args[2]}


def test_what_a_descriptor_says_is_part_of_the_work(plan: Plan) -> None:
    step, _ = the_launch(plan)
    assert isinstance(step.args[1], Descriptor)
    padded = dataclasses.replace(step.args[1], padding="zero")
    other = dataclasses.replace(step, args=(step.args[0], padded, *step.args[2:]))
    assert plan_hash(dataclasses.replace(plan, steps=(other,))) != plan_hash(plan)


HOSTILE = [
    (0, -1, "index"), (0, 10**6, "index"), (0, True, "index"), (0, None, "index"),
    (1, [41, 32], "reaches byte"), (1, [40, 33], "reaches byte"), (1, [0, 32], "shape"), (1, [-40, 32], "shape"),
    (1, [2**31, 32], "shape"), (1, [40], "sizes"), (1, [40, 32, 1], "sizes"), (1, [], "sizes"),
    (1, [True, 32], "shape"),
    (1, [40.0, 32], "shape"), (1, [2**70, 32], "shape"), (1, [None, 32], "shape"),
    (2, [33, 1], "multiples"), (2, [32, 2], "last one"), (2, [32, 0], "last one"), (2, [-32, 1], "strides"),
    (2, [2**62, 1], "strides"), (2, [1], "strides"), (2, [36, 1], "reaches byte"), (2, [32, True], "strides"),
    (3, "garbage", "padding"), (3, None, "padding"), (3, ["zero"], "padding"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "value", "message"), HOSTILE)
def test_a_hostile_descriptor_is_refused_by_name(body: dict[str, Any], at: int, value: Any, message: str) -> None:
    hostile = copy.deepcopy(body)
    hostile["steps"][0]["args"][1]["descriptor"][at] = value
    with pytest.raises(PlanError, match=message):
        decode(json.dumps(hostile).encode())


@pytest.mark.parametrize(
    "argument",
    [0, None, 1.5, {"descriptor": []}, {"descriptor": 5}, {"descriptor": [0, 1, 2, "zero"]}, {"descriptor": None},
     {"descriptor": [0, [40] * 6, [1] * 6, "zero"]}, {"descriptor": [0, [40, 32], [32, 1], "zero"], "more": 1}],
)  # fmt: skip
def test_what_is_no_descriptor_is_refused(body: dict[str, Any], argument: Any) -> None:
    hostile = copy.deepcopy(body)
    hostile["steps"][0]["args"][1] = argument
    with pytest.raises(PlanError):
        decode(json.dumps(hostile).encode())


def test_a_descriptor_is_no_number_and_no_pointer(body: dict[str, Any]) -> None:
    for at in (0, 2, 4):
        hostile = copy.deepcopy(body)
        hostile["steps"][0]["args"][at] = hostile["steps"][0]["args"][1]
        with pytest.raises(PlanError):
            decode(json.dumps(hostile).encode())


@pytest.mark.parametrize(
    "kind",
    ["tensordesc<fp32>", "tensordesc<fp32[]>", "tensordesc<fp32[16, 32],print(1)>", "tensordesc<fp32[15, 32]>",
     "tensordesc<fp32[0, 32]>", "tensordesc<fp32[-16, 32]>", "tensordesc<fp32[1,1,1,1,1,1]>", "tensordesc<void[16]>",
     "tensordesc<fp32[16, 32]", "tensordesc<fp32[2048, 1024]>", "tensordesc<fp32[16, 32]>>", "tensordesc<fp32[16\n]>",
     "*tensordesc<fp32[16, 32]>", "*tensordesc<fp32[16],print(1)>", "*", "**fp32", "*kkfp32", "*fp32 ", "*void"],
)  # fmt: skip
def test_types_that_a_plan_cannot_hold_are_refused(body: dict[str, Any], kind: str) -> None:
    hostile = copy.deepcopy(body)
    hostile["kernels"][0]["params"][1][1] = kind
    with pytest.raises(PlanError, match="parameter type"):
        decode(json.dumps(hostile).encode())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("box", [512, 32], "box"), ("box", [0, 32], "box"), ("box", [16], "box"), ("box", [32, 32], "than its block"),
     ("box", [16, 2], "16"), ("swizzle", 4, "swizzle"), ("swizzle", -1, "swizzle"), ("swizzle", 1, "swizzle"),
     ("swizzle", None, "swizzle"), ("element_type", 6, "type"), ("element_type", 99, "type"),
     ("element_type", [], "type"), ("element_bytes", 8, "type"), ("element_bytes", "4", "type"),
     ("box", "ab", "malformed"), ("box", [1] * 6, "malformed"), ("more", 1, "malformed")],
)  # fmt: skip
def test_a_hostile_form_is_refused_by_name(body: dict[str, Any], name: str, value: Any, message: str) -> None:
    hostile = copy.deepcopy(body)
    hostile["kernels"][0]["descriptors"][1][name] = value
    with pytest.raises(PlanError, match=message):
        decode(json.dumps(hostile).encode())


@pytest.mark.parametrize("forms", [[], [{"flags": 1}], [{"flags": 0}] * 2, [{"flags": 3}] * 2, [{"flags": "1"}] * 2])
def test_forms_are_as_many_as_descriptors(body: dict[str, Any], forms: list[Any]) -> None:
    hostile = copy.deepcopy(body)
    hostile["kernels"][0]["descriptors"] = forms
    with pytest.raises(PlanError, match="descriptor"):
        decode(json.dumps(hostile).encode())


def test_no_descriptor_is_compiled_for_multiples(body: dict[str, Any]) -> None:
    hostile = copy.deepcopy(body)
    hostile["kernels"][0]["divisible"] = ["x_desc"]
    with pytest.raises(PlanError, match="multiple"):
        decode(json.dumps(hostile).encode())


SIZES = st.lists(st.integers(0, 9), max_size=5)


@given(shape=SIZES, strides=SIZES, offset=st.integers(0, 9), limit=st.integers(0, 400), block=SIZES, item=st.booleans())
def test_what_is_let_through_stays_in_its_buffer(
    shape: list[int], strides: list[int], offset: int, limit: int, block: list[int], item: bool
) -> None:
    dtype, triton_dtype = ("float32", "fp32") if item else ("float64", "fp64")
    kind = block_of(f"tensordesc<{triton_dtype}[{', '.join(str(1 << size) for size in block)}]>")
    steps = tuple(4 * stride for stride in strides[:-1]) + (1,) * bool(strides)
    given = Descriptor(base=0, shape=tuple(shape), strides=steps, padding="zero")
    if kind is None or fault_of(given, kind, dtype=dtype, offset=2 * offset, limit_bytes=limit) is not None:
        return
    storage = torch.zeros(limit // ITEM_BYTES[dtype])  # as_strided raises where a view would reach beyond it
    storage.as_strided(given.shape, given.strides, 2 * offset).fill_(1)


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn", "int32"])
def test_what_the_driver_takes_for_integers_is_not_padded_with_nan(dtype: str) -> None:
    block = block_of(f"tensordesc<{TRITON_DTYPE[dtype]}[16, 32]>")
    assert block is not None
    zeros = Descriptor(base=0, shape=(16, 32), strides=(32, 1), padding="zero")
    assert fault_of(zeros, block, dtype=dtype, offset=0, limit_bytes=2048) is None
    nans = dataclasses.replace(zeros, padding="nan")
    assert "padding" in str(fault_of(nans, block, dtype=dtype, offset=0, limit_bytes=2048))


# --- how kernels take them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", [90, 80])
def test_parameters_are_those_of_the_cubin(plan: Plan, capability: int) -> None:
    """The sizes that are passed are what the cubin says of itself, one by one, as the driver reads them."""
    step, kernel = the_launch(plan)
    figures, cubin = compiled(json.loads(json.dumps(recipe_of(kernel, capability=capability))))
    forms = tuple(map(form_from_json, figures["descriptors"]))
    kernel = dataclasses.replace(kernel, descriptors=forms, cubin=cubin)
    assert {type(form) for form in forms} == {TensorMap if capability == 90 else Lowered}
    told = cubin_parameters(cubin)
    assert scratch_pointers(parameter_sizes(kernel), [parameter.size for parameter in told], name="doubled") == 2
    packed = packed_arguments(step, kernel, pointer=lambda index: 4096 * (index + 1), encode=lambda *_: bytes(128))
    assert [len(raw) for raw in packed] == [parameter.size for parameter in told[:-2]]
    for parameter, after in itertools.pairwise(told):
        assert parameter.offset + parameter.size <= after.offset
    maps = [parameter for parameter in told if parameter.size == MAP_BYTES]
    assert len(maps) == (2 if capability == 90 else 0)
    assert all((_PARAMETERS_AT + parameter.offset) % MAP_ALIGN == 0 for parameter in maps)


def test_the_trusted_compiler_makes_what_the_candidates_process_made(tracer: Tracer) -> None:
    problem, source = doubling("float32")
    asked = {"source": source, "spec": tracer.spec(make_problem(problem)), "capability": 90}
    outcome = tracer._run("trace", wire.pack(asked), tracer._settings.trace_limits)
    assert outcome.result is not None
    theirs = decode(bytes(wire.unpack(outcome.result)[1][0]))
    traced = tracer.trace(make_problem(problem), make_candidate(source))
    assert traced.plan is not None
    _, ours = the_launch(decode(traced.plan))
    assert ours == the_launch(theirs)[1]
    assert ours.descriptors[0] == TensorMap(swizzle=3, element_type=7, element_bytes=4, box=(16, 32))


@pytest.mark.parametrize(
    ("dtype", "element_type", "size"),
    [("float16", 6, 2), ("bfloat16", 9, 2), ("float32", 7, 4), ("float64", 8, 8), ("int32", 2, 4), ("int8", 0, 1)],
)
def test_dtypes_are_the_drivers(trace: Trace, dtype: str, element_type: int, size: int) -> None:
    """By CUtensorMapDataType of cuda.h, in which the compiler's 8, 9 and 10 are 10, 8 and 9."""
    traced = trace(*doubling(dtype))
    assert traced.plan is not None, traced.failure
    _, kernel = the_launch(decode(traced.plan))
    form = kernel.descriptors[0]
    assert isinstance(form, TensorMap)
    signed = {2: (2, 3)}.get(element_type, (element_type,))
    assert form.element_type in signed and form.element_bytes == size


@pytest.mark.parametrize("flags", [1, 2])
def test_a_lowered_descriptor_comes_apart_as_in_tritons_launcher(flags: int) -> None:
    given = Descriptor(base=0, shape=(40, 32), strides=(64, 1), padding="nan")
    packed = packed_descriptor(Lowered(flags=flags), given, address=0x1234, encode=lambda *_: b"")
    numbers = [(len(raw), int.from_bytes(raw, "little")) for raw in packed]
    apart = [(8, 0x1234), (8, 40), (8, 32), (8, 64), (8, 1), (1, 1), (1, 0)][: 5 + flags]
    assert numbers == [*apart, (4, 40), (4, 32), (8, 64), (8, 1)]


def test_an_encoded_descriptor_comes_before_its_sizes() -> None:
    given = Descriptor(base=0, shape=(40, 32), strides=(64, 1), padding="zero")
    form = TensorMap(swizzle=3, element_type=7, element_bytes=4, box=(16, 32))
    seen: list[tuple[TensorMap, Descriptor, int]] = []

    def encode(form: TensorMap, descriptor: Descriptor, address: int) -> bytes:
        seen.append((form, descriptor, address))
        return b"\x05" * 128

    packed = packed_descriptor(form, given, address=0x1230, encode=encode)
    assert seen == [(form, given, 0x1230)]
    assert packed[0] == b"\x05" * 128
    assert [(len(raw), int.from_bytes(raw, "little")) for raw in packed[1:]] == [(4, 40), (4, 32), (8, 64), (8, 1)]


def test_a_block_of_parameters_holds_maps_aligned_between_others() -> None:
    packed = [b"\x01" * 4, b"\x02" * 128, b"\x03" * 8, b"\x04" * 1, b"\x05" * 128, b"\x06" * 4]
    block = ParameterBlock(packed)
    addresses = (ctypes.c_uint64 * len(packed)).from_address(block.address)
    assert [ctypes.string_at(at, len(raw)) for at, raw in zip(addresses, packed, strict=True)] == packed
    assert addresses[1] % MAP_ALIGN == addresses[4] % MAP_ALIGN == 0


# --- what the driver is told -----------------------------------------------------------------------------------------


def recording(seen: dict[str, Any], result: int) -> Any:
    """A C function with the driver's interface that writes down what it is given."""

    def encode(out: int, kind: int, rank: int, address: int, sizes: Any, strides: Any, box: Any, steps: Any,
               interleave: int, swizzle: int, promotion: int, fill: int) -> int:  # fmt: skip
        seen.update(
            aligned=out % MAP_ALIGN == 0, kind=kind, rank=rank, address=address, sizes=sizes[:rank],
            strides=strides[: rank - 1], box=box[:rank], steps=steps[:rank], interleave=interleave, swizzle=swizzle,
            promotion=promotion, fill=fill,
        )  # fmt: skip
        ctypes.memset(out, 0xAB, MAP_BYTES)
        return result

    return ctypes.CFUNCTYPE(ctypes.c_int, *ENCODE_ARGUMENTS)(encode)


def test_the_driver_is_told_dimensions_from_the_last_and_bytes() -> None:
    seen: dict[str, Any] = {}
    form = TensorMap(swizzle=3, element_type=6, element_bytes=2, box=(1, 128, 64))
    given = Descriptor(base=0, shape=(4, 200, 192), strides=(40_000, 200, 1), padding="nan")
    result, raw = encoded(recording(seen, 0), form, given, address=1 << 40)
    assert (result, raw) == (0, b"\xab" * MAP_BYTES)
    assert seen == {
        "aligned": True, "kind": 6, "rank": 3, "address": 1 << 40, "sizes": [192, 200, 4], "strides": [400, 80_000],
        "box": [64, 128, 1], "steps": [1, 1, 1], "interleave": 0, "swizzle": 3, "promotion": 2, "fill": 1,
    }  # fmt: skip


def test_one_dimension_has_the_stride_of_its_whole() -> None:
    form = TensorMap(swizzle=0, element_type=7, element_bytes=4, box=(256,))
    given = Descriptor(base=0, shape=(6400,), strides=(1,), padding="zero")
    told = tiling(form, given)
    assert (told.sizes, told.stride_bytes, told.box) == ((6400,), (25_600,), (256,))
    assert encoded(recording({}, 1), form, given, address=4096)[0] == 1


class _Prepared:
    """A launch that only says with which addresses it was packed."""

    def __init__(self, log: list[dict[int, int]]) -> None:
        self.log = log
        self.kernel: Any = None

    def prepare(self, step: LaunchStep, pointer: Callable[[int], int]) -> Callable[[int], None]:
        found = {a.base: pointer(a.base) for a in step.args if isinstance(a, Descriptor)}
        self.log.append(found)
        return lambda stream: None


def test_a_descriptor_is_encoded_again_where_its_tensor_has_moved(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    runner = Runner(plan, driver=cast(CudaDriver, None), device=torch.device("cpu"), watchdog=Watchdog(lambda: None))
    log: list[dict[int, int]] = []
    monkeypatch.setattr(runner, "_kernel", lambda _: _Prepared(log))
    arena = Arena(plan, device=torch.device("cpu"), poison=0, guard_bytes=512)
    launch = runner.launcher(arena)
    step, _ = the_launch(plan)
    launch(step)
    launch(step)
    assert len(log) == 1
    storage = plan.values[plan.inputs[0]].storage
    kept = arena.hand_over([storage])  # stays alive, so that the next one lies elsewhere
    launch(step)
    assert len(log) == 2 and log[0][plan.inputs[0]] != log[1][plan.inputs[0]] and kept


def test_forms_of_real_kernels_are_fit() -> None:
    block = block_of("tensordesc<fp16[128, 64]>")
    assert block is not None and math.prod(block.shape) == 8192
    assert form_fault(TensorMap(swizzle=3, element_type=6, element_bytes=2, box=(128, 64)), block) is None
