"""Restores names that Inductor-style answers import and that newer or CPU-only PyTorch does not have.

Runs in the sandboxed child before the candidate is imported; the candidate's text stays as it is. What a name does
follows PyTorch 2.5, for which such answers were written. Does not record: everything ends in aten calls or Triton
launches.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sandbox.recorder import Recorder

_MAX_Y_GRID = 65_535
WRONG_SIZE = ("expected size (", "expected stride (")  # how the message of `assert_size_stride` begins

Grid = Callable[[dict[str, Any]], tuple[int, int, int]]


def grid(*numels: int | None) -> Grid:
    """A launch grid from element counts, the last of which is x (PyTorch 2.5 `triton_heuristics.grid`).

    A missing XBLOCK counts as 1, a missing YBLOCK or ZBLOCK means one program an element; y beyond 65535 spills into z.
    """
    z, y, x = (None,) * (3 - len(numels)) + numels

    def launch_grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        num_x = _num_programs(x, meta.get("XBLOCK", 1))
        num_y = _num_programs(y, meta.get("YBLOCK"))
        if z is None and num_y > _MAX_Y_GRID:
            num_z = _ceil_div(num_y, _MAX_Y_GRID)
            return num_x, _ceil_div(num_y, num_z), num_z
        return num_x, num_y, _num_programs(z, meta.get("ZBLOCK"))

    return launch_grid


def split_scan_grid(xnumel: int, rnumel: int) -> Grid:
    """One program an RBLOCK of the scan in x, one a row in y."""
    return lambda meta: (_ceil_div(rnumel, meta.get("RBLOCK", 1)), xnumel, 1)


def cooperative_reduction_grid(xnumel: int) -> Grid:
    """RSPLIT programs a reduction in x, one an XBLOCK of rows in y."""
    return lambda meta: (meta["RSPLIT"], _ceil_div(xnumel, meta.get("XBLOCK", 1)), 1)


def grid_combo_kernels(*numels: Any, num_kernels: int, **_: Any) -> Grid:
    """The sum of the sub-kernels' x blocks, in sequence."""
    flat = [n[-1] if isinstance(n, Sequence) else n for n in numels]
    return lambda meta: (sum(_num_programs(n, meta.get("XBLOCK", 1)) for n in flat[:num_kernels]), 1, 1)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _num_programs(numel: int | None, block: int | None) -> int:
    if numel is None:
        return 1
    return numel if block is None else _ceil_div(numel, block)


def _empty_strided(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="cuda")


def _empty_strided_cpu(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="cpu")


def _reinterpret(tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], offset: int = 0) -> torch.Tensor:
    return torch.as_strided(tensor, tuple(size), tuple(stride), tensor.storage_offset() + offset)


def assert_size_stride(
    tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], op_name: str | None = None
) -> None:
    """Raises AssertionError where size or stride is another."""
    if tuple(tensor.shape) != tuple(size):
        raise AssertionError(f"expected size {tuple(size)}, got {tuple(tensor.shape)}")
    for dim, (want, have, extent) in enumerate(zip(stride, tensor.stride(), tensor.shape, strict=True)):
        if extent > 1 and want != have:  # a dimension of one element has no stride worth checking
            raise AssertionError(f"expected stride {tuple(stride)}, got {tuple(tensor.stride())} at dimension {dim}")


class _ExternKernels:
    """The operators that Inductor calls by `extern_kernels.<name>`, with their `out=` forms."""

    def _out(self, result: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        return result if out is None else out.copy_(result)

    def mm(self, a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        return self._out(torch.mm(a, b), out)

    def bmm(self, a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        return self._out(torch.bmm(a, b), out)

    def addmm(self, c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, alpha: float = 1, beta: float = 1,
              out: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
        return self._out(torch.addmm(c, a, b, alpha=alpha, beta=beta), out)

    def baddbmm(self, c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, alpha: float = 1, beta: float = 1,
                out: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
        return self._out(torch.baddbmm(c, a, b, alpha=alpha, beta=beta), out)

    bias_addmm = addmm

    def _mm_plus_mm(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor, *,
                    out: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
        return self._out(torch.mm(a, b) + torch.mm(c, d), out)

    def convolution(self, x: torch.Tensor, weight: torch.Tensor, *, stride: Any, padding: Any, dilation: Any,
                    transposed: bool, output_padding: Any, groups: int,
                    bias: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
        args = (list(stride), list(padding), list(dilation), transposed, list(output_padding), groups)
        return torch.ops.aten.convolution(x, weight, bias, *args)  # type: ignore[no-any-return]


_GRIDS: dict[str, Any] = {
    "grid": grid,
    "split_scan_grid": split_scan_grid,
    "grid_combo_kernels": grid_combo_kernels,
    "cooperative_reduction_grid": cooperative_reduction_grid,
    "start_graph": lambda *_, **__: None,
    "end_graph": lambda *_, **__: None,
}


_GUARDS: dict[str, Any] = {
    "_empty_strided_cuda": _empty_strided,
    "_empty_strided_cpu": _empty_strided_cpu,
    "_reinterpret_tensor": _reinterpret,
    "assert_size_stride": assert_size_stride,
}


def warm() -> None:
    """Imports, in the warm process, the modules that answers import.

    On a CUDA build they ask whether there is a GPU, and asking starts a driver thread, after which forking is not safe.
    The warm process has none by design, so the question is answered for it.
    """
    torch.cuda.is_available = lambda: False
    torch.cuda.device_count = lambda: 0
    for name in ("triton_heuristics", "triton_helpers", "hints"):
        importlib.import_module(f"torch._inductor.runtime.{name}")


def install(recorder: Recorder) -> None:
    """Puts the names in place, for the life of this process. Use of a restored one is written down as a label."""
    heuristics = importlib.import_module("torch._inductor.runtime.triton_heuristics")
    for name, function in _GRIDS.items():
        if not hasattr(heuristics, name):
            setattr(heuristics, name, _labelled(function, recorder, "names_restored"))
    for name, function in _GUARDS.items():
        setattr(torch._C._dynamo.guards, name, function)
    _stand_in_module("torch._inductor.select_algorithm", {"extern_kernels": _ExternKernels()})


def _labelled(function: Any, recorder: Recorder, label: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        recorder.labels.add(label)
        return function(*args, **kwargs)

    return call


def _stand_in_module(name: str, names: dict[str, Any]) -> None:
    """A light module in place of a heavy one (importing the real one costs a second and compiles nothing here)."""
    import sys

    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)
