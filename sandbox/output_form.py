"""Decides whether what a plan returns has the form of what the reference returns, before anything has run.

Structure, shapes, dtypes, memory, and whatever is returned beside tensors. Knows no torch, and no values of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.plan import Plan
from sandbox.plan_check import tensor_refs, tree_tensors
from sandbox.types import Failure, Status


def unfit(plan: Plan, spec: Mapping[str, Any]) -> tuple[Status, Failure] | None:
    """What is wrong with the plan's outputs as they stand, before anything has run: structure, shape, dtype, memory."""
    wanted = spec["outputs"]
    if wanted is not None:
        mine: list[tuple[str, str, list[int]]] = [
            (path, plan.values[i].dtype, list(plan.values[i].shape)) for path, i in tree_tensors(plan.outputs)
        ]
        if [path for path, _, _ in mine] != [path for path, _, _ in wanted]:
            message = (
                f"returns {_told([m[0] for m in mine])} where the reference returns {_told([w[0] for w in wanted])}"
            )
            return Status.WRONG_SHAPE, Failure(error_class="Outputs", message=message)
        for (path, dtype, shape), (_, want_dtype, want_shape) in zip(mine, wanted, strict=True):
            if shape != want_shape:
                message = f"output{path} has shape {tuple(shape)}, the reference {tuple(want_shape)}"
                return Status.WRONG_SHAPE, Failure(error_class="Outputs", message=message)
            if dtype != want_dtype:
                message = f"output{path} is {dtype}, the reference {want_dtype}"
                return Status.WRONG_DTYPE, Failure(error_class="Outputs", message=message)
    if (other := _other_leaf(plan.outputs, spec.get("returned"))) is not None:
        return Status.WRONG_VALUES, Failure(error_class="Outputs", message=other)
    shared = _aliasing(plan)
    return None if shared is None else (Status.REJECTED, shared)


def _told(paths: Sequence[str]) -> str:
    return "a tensor" if list(paths) == [""] else f"{len(paths)} tensor(s) at {', '.join(paths[:4])}"


def _aliasing(plan: Plan) -> Failure | None:
    """Refuses outputs that are windows on an input's buffer or that do not live on the GPU."""
    inputs = {plan.values[i].storage for i in plan.inputs}
    outputs = [plan.values[i] for i in tensor_refs(plan.outputs)]
    if any(value.device != "cuda" for value in outputs):
        return Failure(error_class="Device", message="an output is on the CPU; return it on the device of the inputs")
    if any(value.storage in inputs for value in outputs):
        return Failure(
            error_class="Aliasing", message="an output shares its memory with an input; write to a new tensor"
        )
    for value in outputs:
        if any(step == 0 and size > 1 for step, size in zip(value.stride, value.shape, strict=True)):
            return Failure(
                error_class="Aliasing", message="an output is an expanded tensor: several elements share one memory"
            )
    return None


def _other_leaf(mine: Any, wanted: Any) -> str | None:
    """What differs first between the numbers, strings and None that are returned beside tensors; `wanted` is None where
    the reference's are not known."""
    if wanted is None:
        return None
    got, want = (dict(_plain_leaves(tree)) for tree in (mine, wanted))
    for path in (*want, *got):
        if path not in got or path not in want or not _same(got[path], want[path]):
            told = [f"{leaves[path]!r:.40}" if path in leaves else "nothing" for leaves in (got, want)]
            return f"output{path} is {told[0]}, the reference has {told[1]}"
    return None


def _plain_leaves(tree: Any, *, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of a tree of outputs that are no tensors, with paths as `tree_tensors` has them."""
    if isinstance(tree, list):
        return [leaf for i, entry in enumerate(tree) for leaf in _plain_leaves(entry, path=f"{path}[{i}]")]
    if not isinstance(tree, dict):
        return [(path, tree)]
    if "tuple" in tree:
        return _plain_leaves(tree["tuple"], path=path)
    if "dict" in tree:
        return [leaf for key, entry in tree["dict"] for leaf in _plain_leaves(entry, path=f"{path}[{key!r}]")]
    return [] if "tensor" in tree else [(path, tree)]


def _same(got: Any, want: Any) -> bool:
    close = isinstance(got, float) and isinstance(want, float) and math.isclose(got, want, rel_tol=1e-6)
    return close or bool(got == want)
