"""Plans as hostile data: what is refused, that nothing else than PlanError comes out, and what dataflow calls a
plan."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.plan import Plan, PlanError, decode, encode, plan_hash
from sandbox.plan_check import Work, dataflow, tensor_refs, tree_tensors
from sandbox.tracer import Traced

Trace = Callable[[str, str], Traced]

# The running mean becomes the mean, which the operator does not return.
BATCH_NORM = """means, rest = torch.zeros(y.shape[-1], device=y.device), torch.ones(y.shape[-1], device=y.device)
        torch.native_batch_norm(y, None, None, means, rest, True, 1.0, 0.0)
        return means"""


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
        (["outputs"], {"tensor": 10**9, "other": {"tensor": 0}}, "outputs: malformed"),
        (["outputs"], {"dict": 5, "other": {"tensor": 0}}, "outputs: malformed"),
        (["outputs"], {"dict": 5}, "outputs: malformed"),
        (["outputs"], {"dict": [["a", {"tensor": 0}], ["a", {"tensor": 0}]]}, "outputs: malformed"),
        (["outputs"], {"tuple": {"tensor": 0}}, "outputs: malformed"),
        (["outputs"], {"tensor": "0"}, "index"),
        (["outputs"], {"tensor": True}, "index"),
        (["outputs"], [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]], "nested too deeply"),
        (["outputs"], [0] * 200_000, "more than"),
        (["steps", 1, "args"], [{"float": "1.0; import os"}], "malformed"),
        (["steps", 1, "args"], [{"complex": [1, 2, 3]}], "malformed"),
        (["steps", 1, "args"], [{"no_such_tag": 1}], "malformed"),
        (["steps", 1, "args"], [1 << 80], "malformed"),
        (["steps", 1, "kwargs"], {"tensor": 0}, "no argument"),
        (["steps", 1, "extra"], 1, "unknown fields"),
        (["kernels", 0, "constants"], {"BLOCK": {"value": [1], "kind": "int"}}, "malformed"),
        (["kernels", 0, "constants"], {"BLOCK": {"value": "x", "kind": "float"}}, "malformed"),
        (["kernels", 0, "constants"], {"BLOCK": {"value": "x" * 100_000, "kind": "str"}}, "malformed"),
        (["kernels", 0, "constants"], [["BLOCK", 1]], "malformed"),
        (["kernels", 0, "names"], {"f": {"tl": {"module": 5}}}, "malformed"),
        (["kernels", 0, "names"], {"f": {str(i): None for i in range(3)}}, "malformed"),
        (["kernels", 0, "functions"], {"relu_kernel": 5}, "malformed"),
        (["labels"], ["x" * 1000], "labels"),
        (["labels"], ["triton"], "labels"),
        (["labels"], ["names_restored", "names_restored"], "labels"),
        (["more"], 1, "unknown fields"),
        (["weights"], [["a", 0], ["a", 0]], "twice"),
    ],
)
def test_hostile_fields_are_refused_by_name(body: dict[str, Any], path: list[Any], value: Any, message: str) -> None:
    hostile = copy.deepcopy(body)
    set_at(path, value)(hostile)
    with pytest.raises(PlanError, match=message):
        decode(json.dumps(hostile).encode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("path", [["steps", 1, "args", 0], ["kernels", 0, "constants", "BLOCK", "value"], ["outputs"]])
def test_numbers_that_are_not_finite_are_refused(body: dict[str, Any], path: list[Any], number: str) -> None:
    hostile = copy.deepcopy(body)
    set_at(path, "NUMBER")(hostile)
    with pytest.raises(PlanError):
        decode(json.dumps(hostile).replace('"NUMBER"', number).encode())


def test_a_plan_too_large_is_refused_unread_but_cubins_may_be_large(body: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="besides its cubins"):
        decode(b"[" * (13 << 20))
    large = copy.deepcopy(body)
    large["kernels"] *= 2
    for kernel in large["kernels"]:
        kernel["cubin"] = base64.b64encode(b"\x7fELF" + bytes(7 << 20)).decode()
    assert len(decode(json.dumps(large).encode()).kernels) == 2


def test_texts_of_a_plan_can_be_encoded(body: dict[str, Any]) -> None:
    hostile = copy.deepcopy(body)
    hostile["kernels"][0]["name"] = "relu\ud800"
    plan = decode(json.dumps(hostile).encode())
    assert plan.kernels[0].name == "relu?"


def test_the_hash_leaves_labels_out(body: dict[str, Any]) -> None:
    labelled = {**body, "labels": ["names_restored"]}
    assert plan_hash(decode(json.dumps(labelled).encode())) == plan_hash(decode(json.dumps(body).encode()))


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
    assert list(tensor_refs(plan.outputs)) == [index for _, index in tree_tensors(plan.outputs)]
    assert len(plan_hash(plan)) == 32


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
        (("return y", "return y.to(torch.float16).to(x.dtype)"), Work.TRITON),
        (("return y", "return y.to(torch.bool).to(x.dtype)"), Work.MIXED),
        (("return y", "return y.to(torch.int32).to(x.dtype)"), Work.MIXED),
        (("return y", BATCH_NORM), Work.MIXED),
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
