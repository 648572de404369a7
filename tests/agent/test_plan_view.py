"""A plan in words: tensors, launches with the bytes they are given, kernels with what limits their occupancy."""

from __future__ import annotations

from dataclasses import replace

from agent.plan_view import bytes_text, launch_text, plan_text, tree_text
from sandbox.descriptors import Descriptor
from sandbox.plan import AtenStep, ChoiceStep, Kernel, LaunchStep, Plan, Storage, Value


def kernel(*, name: str, local_bytes: int = 0, dots: tuple[str, ...] = ()) -> Kernel:
    return Kernel(
        name=name,
        entry=name,
        cubin=b"\x7fELF",
        capability=90,
        num_warps=4,
        num_ctas=1,
        shared_bytes=2048,
        global_scratch_bytes=0,
        global_scratch_align=1,
        profile_scratch_bytes=0,
        cooperative=False,
        pdl=False,
        num_registers=40,
        local_bytes=local_bytes,
        params=(("x", "*fp32"), ("y", "*fp32"), ("n", "i32")),
        constants={},
        functions={},
        names={},
        noinline=(),
        divisible=(),
        options={"num_warps": 4, "num_ctas": 1, "num_stages": 3},
        dots=dots,
        descriptors=(),
    )


def value(storage: int, *shape: int, stride: tuple[int, ...]) -> Value:
    return Value(storage=storage, dtype="float32", shape=shape, stride=stride, offset=0, device="cuda")


def plan() -> Plan:
    launch = LaunchStep(kernel=0, grid=(16, 1, 1), args=(0, 1, 1024))
    in_place = LaunchStep(kernel=1, grid=(1, 1, 1), args=(1, 1, 1024))
    return Plan(
        storages=(Storage(num_bytes=4096, role="scratch"), Storage(num_bytes=4096, role="scratch")),
        values=(value(0, 16, 64, stride=(64, 1)), value(1, 16, 64, stride=(1, 16))),
        kernels=(kernel(name="rows"), kernel(name="scale", local_bytes=64, dots=("tf32",))),
        init_steps=(),
        steps=(
            AtenStep(
                op="aten.empty.memory_format", args=[[16, 64]], kwargs={"dtype": {"dtype": "float32"}}, outputs=(1,)
            ),
            launch,
            ChoiceStep(alternatives=((in_place,), (in_place,)), names=("BLOCK: 64", "BLOCK: 128")),
        ),
        inputs=(0,),
        weights=(),
        outputs={"tensor": 1},
        labels=(),
    )


def test_a_plan_shows_steps_kernels_and_bytes() -> None:
    text = plan_text(plan(), labels=("mixed", "precision_tf32"))
    assert text.startswith("labels\n  mixed, precision_tf32\n")
    assert "%0 float32[16, 64]\n" in text
    assert "aten.empty.memory_format([16, 64], dtype=float32) -> %1 float32[16, 64] stride [1, 16]" in text
    assert "launch rows grid (16, 1, 1) (x=%0, y=%1, n=1024), 8.0 KiB touched at most" in text
    assert "40 registers, no spills, 2.0 KiB shared memory" in text
    assert "64 B stack, spills included" in text
    assert "precision ieee\n" in text and "precision tf32 (dots in tf32)" in text


def test_a_descriptor_is_shown_as_what_it_makes_of_its_tensor() -> None:
    described = Descriptor(base=0, shape=(8, 128), strides=(128, 1), padding="nan")
    kinds = (("x", "tensordesc<fp32[8, 16]>"), ("y", "*fp32"), ("n", "i32"))
    whole = plan()
    whole = replace(whole, kernels=(replace(whole.kernels[0], params=kinds),))
    launch = LaunchStep(kernel=0, grid=(1, 1, 1), args=(described, 1, 1024))
    told = "(x=%0 as [8, 128] stride [128, 1] padded with nan, y=%1, n=1024), 8.0 KiB touched"
    assert told in launch_text(whole, launch)


def test_a_tensor_given_twice_is_counted_once() -> None:
    assert "BLOCK: 128: launch scale grid (1, 1, 1) (x=%1, y=%1, n=1024), 4.0 KiB touched" in plan_text(
        plan(), labels=()
    )


def test_arguments_read_as_python() -> None:
    assert tree_text([{"tensor": 3}, {"tuple": [1, None]}, {"float": "inf"}, "sum"]) == "[%3, (1, None), inf, 'sum']"


def test_bytes_are_rounded_in_binary_units() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 3 << 20, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
