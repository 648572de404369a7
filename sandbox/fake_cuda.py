"""Answers in place of a CUDA machine, so that code written for a GPU can be traced without one.

Runs in the sandboxed child. Two parts: tensor methods whose C++ bindings ask for a device guard, which a CPU-only
PyTorch refuses on fake CUDA tensors, go to the aten operators behind them; and `torch.cuda` gets stand-ins. Methods
are replaced on the class, not by a TorchFunctionMode, because such a mode is off inside torch's own Python functions
(`nn.init`). Records nothing itself.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor

from sandbox.recorder import Recorder, Untraceable


def _contiguous(x: torch.Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    return x if x.is_contiguous(memory_format=memory_format) else torch.ops.aten.clone(x, memory_format=memory_format)


def _copy_(x: torch.Tensor, source: Any, non_blocking: bool = False) -> torch.Tensor:
    return torch.ops.aten.copy_(x, source, non_blocking)  # type: ignore[no-any-return]


def _uniform_(x: torch.Tensor, a: float = 0.0, b: float = 1.0, **kwargs: Any) -> torch.Tensor:
    low, high = kwargs.pop("from", a), kwargs.pop("to", b)
    return torch.ops.aten.uniform_(x, low, high, generator=kwargs.pop("generator", None))  # type: ignore[no-any-return]


def _cuda(x: torch.Tensor, device: Any = None, non_blocking: bool = False, **_: Any) -> torch.Tensor:
    return x if x.is_cuda else torch.ops.aten._to_copy(x, device=torch.device("cuda", 0))


def _new_tensor(x: torch.Tensor, data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
    return torch.tensor(data, dtype=dtype or x.dtype, device=device or x.device)


def _tensor_factory(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`torch.tensor` and its kin: the literal is made on the CPU, then copied to the device asked for, or to the
    default one."""

    def build(item: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> torch.Tensor:
        # Not torch.get_default_device: under a device context it calls torch.tensor itself.
        target = torch.device(device) if device is not None else torch.empty(0).device
        if isinstance(item, torch.Tensor):
            return item.to(device=target if device is not None else item.device, dtype=dtype or item.dtype)
        with torch.device("cpu"):
            made = make(item, dtype=dtype, device="cpu", **kwargs)
        if target.type == "cpu":
            return made
        return torch.ops.aten._to_copy(made, device=torch.device("cuda", 0))  # type: ignore[no-any-return]

    return build


_real_numpy = torch.Tensor.numpy


def _numpy(x: torch.Tensor, **kwargs: Any) -> Any:
    if not isinstance(x, FakeTensor):
        return _real_numpy(x, **kwargs)
    raise Untraceable("host code reads tensor values through numpy")


def _deepcopy(x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """A copy by `clone`: torch's own goes through the untyped storage, which a plan has no operator for."""
    if id(x) not in memo:
        copied = x.detach().clone()
        memo[id(x)] = torch.nn.Parameter(copied, x.requires_grad) if isinstance(x, torch.nn.Parameter) else copied
    return memo[id(x)]  # type: ignore[no-any-return]


def _index_parts(x: torch.Tensor, key: Any) -> tuple[torch.Tensor, list[Any] | None]:
    """What Python's indexing means: the view after the basic parts of `key`, and the tensor indices left for
    `index`."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [torch.tensor(p) if isinstance(p, list) else p for p in parts]
    consumed = sum(_dims_used(p) for p in parts)
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (x.dim() - consumed)
    view, dim, tensors = x, 0, {}
    for part in parts:
        if part is None:
            view, dim = torch.ops.aten.unsqueeze(view, dim), dim + 1
        elif isinstance(part, bool):
            raise Untraceable("indexing with a Python bool")
        elif isinstance(part, slice):
            view = _sliced(view, dim, part)
            dim += 1
        elif isinstance(part, torch.Tensor):
            tensors[dim] = part
            dim += part.dim() if part.dtype is torch.bool else 1
        else:
            view = torch.ops.aten.select(view, dim, int(part))
    if not tensors:
        return view, None
    return view, [tensors.get(d) for d in range(max(tensors) + 1)]


def _dims_used(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    if isinstance(part, torch.Tensor) and part.dtype is torch.bool:
        return part.dim()
    return 1


def _sliced(view: torch.Tensor, dim: int, part: slice) -> torch.Tensor:
    start, stop, step = part.indices(int(view.shape[dim]))
    if (start, stop, step) == (0, int(view.shape[dim]), 1):
        return view
    if step <= 0:
        raise ValueError("step must be greater than zero")
    return torch.ops.aten.slice(view, dim, start, max(start, stop), step)  # type: ignore[no-any-return]


def _getitem(x: torch.Tensor, key: Any) -> torch.Tensor:
    view, indices = _index_parts(x, key)
    if indices is None:
        return torch.ops.aten.alias(view) if view is x else view
    return torch.ops.aten.index(view, indices)  # type: ignore[no-any-return]


def _setitem(x: torch.Tensor, key: Any, source: Any) -> None:
    view, indices = _index_parts(x, key)
    if indices is not None:
        if not isinstance(source, torch.Tensor):
            source = torch.full((), source, dtype=x.dtype, device=x.device)
        torch.ops.aten.index_put_(view, indices, source)
    elif isinstance(source, torch.Tensor):
        torch.ops.aten.copy_(view, source)
    else:
        torch.ops.aten.fill_(view, source)


_METHODS: dict[str, Callable[..., Any]] = {
    "contiguous": _contiguous,
    "copy_": _copy_,
    "uniform_": _uniform_,
    "cuda": _cuda,
    "new_tensor": _new_tensor,
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "numpy": _numpy,
    "__deepcopy__": _deepcopy,
}


class _Stream:
    """A stream that orders nothing: a plan is one sequence."""

    cuda_stream = 0
    device_index = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def wait_stream(self, *_: Any) -> None: ...
    def wait_event(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event or _Event()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: Any) -> None: ...


class _Event:
    """An event; asking it for a time is asking for a value that tracing does not have."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, *_: Any) -> None: ...
    def wait(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True

    def elapsed_time(self, _: Any) -> float:
        raise Untraceable("host code reads a CUDA event's time")


_PROPERTIES = types.SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132, warp_size=32,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536, gcnArchName="",
    shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472, L2_cache_size=50 << 20,
)  # fmt: skip


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _refuse(what: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Untraceable(f"{what} cannot be traced")

    return refuse


def _same(function: Any = None, *_: Any, **__: Any) -> Any:
    return function if function is not None else (lambda f: f)


def _cuda_answers() -> dict[str, Any]:
    """Names in `torch.cuda` and what they answer. Real numbers are the H100's; a plan is only ever replayed on a real
    one."""
    nothing = ("synchronize", "set_device", "empty_cache", "init", "_lazy_init", "set_stream",
               "reset_peak_memory_stats", "ipc_collect", "cudart", "_check_capability")  # fmt: skip
    zero = ("current_device", "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")
    return {
        **dict.fromkeys(nothing, _nothing),
        **dict.fromkeys(zero, lambda *_, **__: 0),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_name": lambda *_: _PROPERTIES.name,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: _PROPERTIES,
        "mem_get_info": lambda *_: (70 << 30, 80 << 30),
        "current_stream": _Stream,
        "default_stream": _Stream,
        "Stream": _Stream,
        "Event": _Event,
        "stream": lambda *_: contextlib.nullcontext(),
        "device": lambda *_: contextlib.nullcontext(),
        "device_of": lambda *_: contextlib.nullcontext(),
        "_DeviceGuard": lambda *_: contextlib.nullcontext(),
        "manual_seed": _refuse("seeding (the judge seeds construction)"),
        "manual_seed_all": _refuse("seeding (the judge seeds construction)"),
        "CUDAGraph": _refuse("torch.cuda.CUDAGraph"),
        "graph": _refuse("torch.cuda.graph"),
        "_current_device": 0,
    }


def _gru_cell_shapes(
    gates: torch.Tensor, _hidden: torch.Tensor, state: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output shapes of aten::_thnn_fused_gru_cell, for which torch has no shape function: new state, and five gates of
    workspace."""
    return torch.empty_like(state), state.new_empty((state.shape[0], state.shape[1] * 5))


_LIBRARY: list[Any] = []  # registrations live as long as their library object


def warm() -> None:
    """Registers, in the warm process, the shape functions that torch lacks, and keeps fake tensors off the driver."""
    # On a CUDA build the first fake CUDA tensor makes a real one, to start the driver; here there is none to start.
    setattr(fake_tensor, "init_gpu_context", lambda _device: None)  # noqa: B010
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("_thnn_fused_gru_cell", _gru_cell_shapes, "Meta")  # type: ignore[no-untyped-call]
    _LIBRARY.append(library)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def install(recorder: Recorder) -> None:
    """Puts the stand-ins into torch, for the life of this process."""
    seeding = dict.fromkeys(("manual_seed", "seed", "set_rng_state"), _refuse("seeding (the judge seeds construction)"))
    literals = {name: _tensor_factory(getattr(torch, name)) for name in ("tensor", "as_tensor")}
    for owner, names in (
        (torch.cuda, _cuda_answers()),
        (torch._C, {"_cuda_getCurrentRawStream": lambda *_: 0, "_cuda_getDevice": lambda *_: 0}),
        (torch.jit, {"script": _same, "trace": _same}),
        (torch, {"compile": _same, **seeding, **literals}),
        (torch.nn.Module, {"cuda": lambda self, *_: self, "to": _module_to}),
        (torch.Tensor, {name: _method(m) for name, m in {**_METHODS, "data_ptr": recorder.address_of}.items()}),
    ):
        for name, answer in names.items():
            setattr(owner, name, answer)


def _module_to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """Modules are built on the fake GPU already, so only a change of dtype is work (`Module.to` cannot swap fake
    tensors)."""
    dtype = kwargs.get("dtype") or next((a for a in args if isinstance(a, torch.dtype)), None)
    if dtype is not None:
        for module in self.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in list(held.items()):
                    if tensor is not None and tensor.is_floating_point() and tensor.dtype is not dtype:
                        cast = tensor.detach().to(dtype)
                        wrapped = torch.nn.Parameter(cast) if held is module._parameters else cast
                        held[name] = wrapped  # type: ignore[assignment]
    return self


@contextlib.contextmanager
def fake_gpu(recorder: Recorder, fake_mode: Any) -> Iterator[None]:
    """The modes under which candidate code runs: fake tensors, the recorder, CUDA as the default device."""
    with fake_mode, torch.no_grad(), recorder, torch.device("cuda"):
        yield
