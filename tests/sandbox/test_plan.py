"""Plans as hostile data: what is refused, that nothing else than PlanError comes out, and what dataflow calls a
plan."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.plan import Plan, PlanError, decode, encode
from sandbox.plan_check import Work, dataflow
from sandbox.tracer import Traced

Trace = Callable[[str, str], Traced]


@pytest.fixture(scope="module")
def body(trace: Trace, sources: dict[str, str]) -> dict[str, Any]:
    """A real plan's JSON."""
    source = sources["relu_answer"].replace("return y", "return y + torch.tensor([1.0], device='cuda')")
    traced = trace(sources["relu"], source)
    assert traced.plan is not None
    parsed: dict[str, Any] = json.loads(traced.plan)
    return parsed


def test_a_plan_survives_its_wire_form(body: dict[str, Any]) -> None:
    plan = decode(json.dumps(body).encode())
    assert decode(encode(plan)) == plan


def set_at(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        target: Any = body
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["storages", 0, 0], -1, "size"),
        (["storages", 0, 0], 1 << 50, "size"),
        (["storages", 0, 0], 16, "reaches byte"),
        (["values", 0, 0], 99, "index"),
        (["values", 0, 1], "object", "dtype"),
        (["values", 0, 2], [-4, 4], "size"),
        (["values", 0, 3], [1 << 40, 1 << 40], "size|reaches"),
        (["values", 0, 4], -8, "size"),
        (["values", 0, 5], "cuda:7", "device"),
        (["kernels", 0, "cubin"], "AAAA", "ELF"),
        (["kernels", 0, "entry"], "a;b", "symbol"),
        (["kernels", 0, "num_warps"], 3, "num_warps"),
        (["kernels", 0, "shared_bytes"], 1 << 20, "shared"),
        (["kernels", 0, "global_scratch_bytes"], 1 << 40, "scratch"),
        (["kernels", 0, "params", 0, 1], "tensordesc<fp32>", "parameter type"),
        (["steps", 0, "grid"], [2**31, 1, 1], "grid"),
        (["steps", 0, "grid"], [1, 65536, 1], "grid"),
        (["steps", 0, "grid"], [True, 1, 1], "grid"),
        (["steps", 0, "args"], [], "arguments"),
        (["steps", 0, "args", 0], 10**9, "index"),
        (["steps", 0, "kernel"], -1, "index"),
        (["steps", 1, "op"], "os.system", "aten"),
        (["steps", 1, "op"], "aten.add.Tensor; import os", "aten"),
        (["steps", 1, "outputs"], [10**9], "index"),
        (["init_steps"], [{"kernel": 0, "grid": [1, 1, 1], "args": [0, 1, 2]}], "constructed|index"),
        (["outputs"], {"tensor": 10**9}, "index"),
        (["labels"], ["x" * 1000], "labels"),
        (["weights"], [["a", 0], ["a", 0]], "twice"),
    ],
)
def test_hostile_fields_are_refused_by_name(body: dict[str, Any], path: list[Any], value: Any, message: str) -> None:
    hostile = copy.deepcopy(body)
    set_at(path, value)(hostile)
    with pytest.raises(PlanError, match=message):
        decode(json.dumps(hostile).encode())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def paths_in(item: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [prefix] if prefix else []
    if isinstance(item, dict):
        for key, inner in item.items():
            found += paths_in(inner, (*prefix, key))
    elif isinstance(item, list):
        for at, inner in enumerate(item[:6]):
            found += paths_in(inner, (*prefix, at))
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_plan_gives_a_plan_or_a_plan_error(body: dict[str, Any], data: st.DataObject) -> None:
    hostile = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths_in(hostile)))
        set_at(list(path), data.draw(json_values))(hostile)
    try:
        plan = decode(json.dumps(hostile).encode())
    except PlanError:
        return
    assert isinstance(plan, Plan)
    dataflow(plan)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_any_bytes_give_a_plan_error(raw: bytes) -> None:
    with pytest.raises(PlanError):
        decode(raw)


@pytest.mark.parametrize(
    ("change", "work"),
    [
        (("return y", "return y"), Work.TRITON),
        (("return y", "return torch.relu(y)"), Work.MIXED),
        (("return y", "return torch.relu(x)"), Work.DEAD),
        (("relu_kernel[(triton.cdiv(n, 1024),)](x, y, n, BLOCK=1024)", "y = torch.relu(x)"), Work.TORCH),
        (("relu_kernel[(triton.cdiv(n, 1024),)](x, y, n, BLOCK=1024)", "y = x.clone()"), Work.NONE),
    ],
)
def test_dataflow_tells_who_does_the_work(
    trace: Trace, sources: dict[str, str], change: tuple[str, str], work: Work
) -> None:
    traced = trace(sources["relu"], sources["relu_answer"].replace(*change))
    assert traced.plan is not None, traced.failure
    assert dataflow(decode(traced.plan)).work is work
