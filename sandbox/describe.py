"""Asks a problem what its inputs look like, without computing anything: shapes, dtypes, scalars, weights.

Runs in the sandboxed child, on fake tensors, so a problem with gigabytes of inputs is described in milliseconds. The
module's source is the user's own, but its answers are data all the same.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sandbox import wire
from sandbox.seeding import seed_torch
from sandbox.trees import TreeError, dtype_name, tensors_in, to_tree

_NEEDS_VALUES = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
    NotImplementedError,
)
_UNKNOWN: dict[str, Any] = {"outputs": None, "returned": None}


def warm() -> None:
    """Nothing beyond the imports above."""
    torch.set_num_threads(1)


def load_module(source: str, *, name: str, folder: Path) -> types.ModuleType:
    """Executes `source` as a module read from a file, so that tracebacks and `inspect` find its lines."""
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def construct(cls: Any, init_inputs: Any) -> torch.nn.Module:
    """`cls(*init_inputs)`, or `cls(*args, **kwargs)` for KernelBook's `[args, kwargs]` form."""
    if isinstance(init_inputs, list | tuple) and len(init_inputs) == 2:
        args, kwargs = init_inputs
        if isinstance(args, list | tuple) and isinstance(kwargs, dict):
            return cls(*args, **kwargs)  # type: ignore[no-any-return]
    if isinstance(init_inputs, dict):
        return cls(**init_inputs)  # type: ignore[no-any-return]
    return cls(*init_inputs)  # type: ignore[no-any-return]


def run(body: Any, _blobs: Any, scratch: Path) -> bytes:
    """The problem's spec: {"inputs": tree, "init_inputs": tree, "tensors": [[dtype, shape, stride], ..],
    "weights": [[name, dtype, shape], ..], "outputs": [[path, dtype, shape], ..] or null, "returned": the tree of the
    outputs, all tensors number 0, or null}."""
    try:
        with torch.no_grad():
            try:
                with FakeTensorMode(allow_non_fake_inputs=True):
                    return wire.pack(_spec(body["source"], scratch, call=True))
            except _NEEDS_VALUES:
                # It looks at values, so they are computed; calling the model as well might take very long.
                return wire.pack(_spec(body["source"], scratch, call=False))
    except Exception as error:  # noqa: BLE001  the problem's own code may raise anything; the reason goes to its author
        return wire.pack({"error": f"{type(error).__name__}: {error}"[:2000]})


def _spec(source: str, folder: Path, *, call: bool) -> dict[str, Any]:
    tensors: list[Any] = []

    def tensor(item: torch.Tensor) -> int:
        tensors.append([dtype_name(item.dtype), list(item.shape), list(item.stride())])
        return len(tensors) - 1

    # Keeping the seed fixed makes scalars drawn at random in get_inputs the same here and where values are made.
    seed_torch(0)
    module = load_module(source, name="problem", folder=folder)
    init_inputs = module.get_init_inputs()
    inputs = module.get_inputs()
    spec = {"inputs": to_tree(inputs, tensor), "init_inputs": to_tree(init_inputs, tensor), "tensors": tensors}
    model = construct(module.Model, init_inputs)
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    spec["weights"] = [[name, dtype_name(w.dtype), list(w.shape)] for name, w in weights.items()]
    return {**spec, **(_outputs(model, inputs) if call else _UNKNOWN)}


def _outputs(model: torch.nn.Module, inputs: Any) -> dict[str, Any]:
    """ "outputs", [path, dtype, shape] of each tensor, and "returned"; null where the reference cannot run on fake
    tensors, or its outputs have no tree.

    What else it raises is its own fault, and better told now than blamed on the first candidates.
    """
    try:
        made = model(*inputs)
    except _NEEDS_VALUES:
        return _UNKNOWN
    try:
        returned = to_tree(made, lambda _: 0)
    except TreeError:
        returned = None
    leaves = [[path, dtype_name(t.dtype), list(t.shape)] for path, t in tensors_in(made)]
    return {"outputs": leaves, "returned": returned}
