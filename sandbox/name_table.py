"""Lists which names the modules that kernels are written with really have here, as plain data.

Runs in a child of the warm process that has never seen a candidate. What Inductor-style answers import and newer
PyTorch no longer has is restored first, as it is for every candidate.
"""

from __future__ import annotations

import importlib
import types
from pathlib import Path
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode

from sandbox import inductor_names, wire
from sandbox.recorder import Recorder

_TL, _INDUCTOR = "triton.language", "torch._inductor.runtime"
_MODULES = (
    "triton", _TL, f"{_TL}.core", f"{_TL}.math", f"{_TL}.standard", f"{_TL}.random", f"{_TL}.extra",
    f"{_TL}.extra.libdevice", f"{_TL}.extra.cuda", f"{_TL}.extra.cuda.libdevice", f"{_INDUCTOR}.triton_helpers",
    f"{_INDUCTOR}.triton_heuristics", f"{_INDUCTOR}.hints", "torch._inductor.select_algorithm",
)  # fmt: skip
_OBJECTS = {"torch._inductor.select_algorithm": ("extern_kernels",)}


def warm() -> None:
    """Nothing to do: `inductor_names.warm` has imported the slow ones."""


def run(_body: Any, _blobs: Any, _scratch: Path) -> bytes:
    """{module: {name: the listed module that it is, or ""}}; of a module that makes names up as asked, nothing."""
    inductor_names.install(Recorder(FakeTensorMode()))
    modules: dict[str, Any] = {}
    for name in _MODULES:
        try:
            modules[name] = importlib.import_module(name)
        except ImportError:  # another version of Triton may lack one
            continue
    for name, attributes in _OBJECTS.items():
        modules |= {f"{name}.{attribute}": getattr(modules[name], attribute) for attribute in attributes}
    names = {id(module): name for name, module in modules.items()}
    table = {
        name: {attribute: names.get(id(getattr(module, attribute)), "") for attribute in dir(module)}
        for name, module in modules.items()
        if not (isinstance(module, types.ModuleType) and "__getattr__" in vars(module))
    }
    return wire.pack(table)
