"""A stand-in for Triton's driver: kernels are compiled for the target without a GPU, and launches are recorded.

Runs in the sandboxed child. Triton's own code does all the rest (binding, specialisation, compilation, resource
checks), so an answer meets the errors that it would meet on the real machine.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.autotuner import Autotuner
from triton.runtime.errors import OutOfResources, PTXASError
from triton.runtime.jit import JITFunction

from sandbox.cubin import cubin_registers, figures_of
from sandbox.descriptors import Descriptor, block_of, fault_of, form_from_json, is_descriptor
from sandbox.kernel_description import Description
from sandbox.kernel_recipe import OPTIONS
from sandbox.kernel_source import SourceError
from sandbox.plan import MAX_ALTERNATIVES, Kernel, LaunchStep
from sandbox.recorder import ADDRESS_BASE, ADDRESS_END, Recorder, Untraceable

# Limits of compute capability 9.0 (CUDA C++ programming guide, technical specifications per compute capability).
_PROPERTIES = {
    "max_shared_mem": 232_448, "max_num_regs": 65_536, "multiprocessor_count": 132, "warpSize": 32,
    "sm_clock_rate": 1_980_000, "mem_clock_rate": 2_619_000, "mem_bus_width": 5_120,
}  # fmt: skip
_MAX_THREADS = 1024
# Compile options that bring in what a plan cannot hold.
_FILES_AND_TEXT = ("ir_override", "ptx_options", "extern_libs", "instrumentation_mode", "ptx_version")
_NON_FATAL = (OutOfResources, PTXASError, triton.compiler.errors.CompileTimeAssertionFailure)


class UnsupportedArgument(Untraceable):
    """A kernel is launched with what a plan has no form for. The class is told, and has words of its own there."""


class DescriptorError(ValueError):
    """A kernel is given a descriptor that does not fit its tensor or the hardware."""


class CompileFailure(Exception):
    """Triton could not compile a kernel; the cause is Triton's own error."""


class _Utils:
    """What the driver's C module would answer."""

    def __init__(self) -> None:
        self._handles = itertools.count(1)

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return dict(_PROPERTIES)

    def load_binary(self, _name: str, cubin: bytes, _shared: int, _device: int) -> tuple[int, int, int, int, int]:
        handle = next(self._handles)
        return handle, handle, cubin_registers(cubin), 0, _MAX_THREADS

    def set_printf_fifo_size(self, _size: int) -> None: ...


class RecordingDriver:
    """Answers for a GPU of the given compute capability; its launcher hands launches to the recorder."""

    def __init__(self, recorder: Recorder, *, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)
        self.utils = _Utils()
        self.launcher_cls: Callable[..., _Launcher] = lambda src, metadata: _Launcher(src, metadata, recorder)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, _device: int) -> None: ...

    def get_current_stream(self, _device: int = 0) -> int:
        return 0

    def get_device_capability(self, _device: int = 0) -> tuple[int, int]:
        return divmod(int(self._target.arch), 10)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        return torch.cuda

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind

    def get_benchmarker(self) -> Any:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Untraceable("host code times a kernel")

        return refuse

    def get_empty_cache_for_benchmark(self) -> Any:
        raise Untraceable("host code times a kernel")

    def clear_cache(self, _cache: Any) -> None: ...


class _Launcher:
    """Takes the place of the compiled launcher of one kernel."""

    def __init__(self, src: Any, metadata: Any, recorder: Recorder) -> None:
        self._src, self._metadata, self._recorder = src, metadata, recorder
        self._index: int | None = None

    def __call__(self, grid_x: Any, grid_y: Any, grid_z: Any, _stream: Any, _function: Any, _packed: Any, _launch: Any,
                 _enter: Any, _exit: Any, *args: Any) -> None:  # fmt: skip
        kernel = self._compiled()
        passed = [a for a, kind in zip(args, self._src.signature.values(), strict=True) if kind != "constexpr"]
        grid = (_grid_size(grid_x), _grid_size(grid_y), _grid_size(grid_z))
        if 0 in grid:
            return  # Triton launches nothing then
        if grid[0] >= 2**31 or max(grid[1:]) >= 2**16:
            raise OutOfResources(max(grid), 2**31 - 1 if grid[0] >= 2**31 else 65_535, "grid size")
        recorded = tuple(
            self._descriptor(a, name, kind) if is_descriptor(kind) else self._argument(i, a, kind)
            for i, (a, (name, kind)) in enumerate(zip(passed, kernel.params, strict=True))
        )
        assert self._index is not None
        self._recorder.launch(LaunchStep(kernel=self._index, grid=grid, args=recorded))

    def _argument(self, position: int, argument: Any, kind: str) -> int | float | bool:
        if not kind.startswith("*"):
            if isinstance(argument, torch.Tensor):
                raise Untraceable("a tensor is passed where the kernel takes a scalar")
            if "f" not in kind and ADDRESS_BASE <= int(argument) < ADDRESS_END:
                raise Untraceable("the address of a tensor is passed to a kernel as a number; pass the tensor")
            return float(argument) if "f" in kind else int(argument)
        tensor = getattr(argument, "base", argument) if not isinstance(argument, torch.Tensor) else argument
        if not isinstance(tensor, torch.Tensor):
            raise Untraceable(f"a raw pointer ({type(argument).__name__}) is passed to a kernel")
        if tensor.device.type != "cuda":
            # The words of Triton's own launcher, which the hint table knows.
            raise ValueError(f"Pointer argument (at {position}) cannot be accessed from Triton (cpu tensor?)")
        return self._recorder.value_of(tensor)

    def _descriptor(self, argument: Any, name: str, kind: str) -> Descriptor:
        """Raises DescriptorError where a GPU would refuse it, or read and write beyond its tensor."""
        base, block = argument.base, block_of(kind)
        if not isinstance(base, torch.Tensor) or block is None:
            raise UnsupportedArgument(f"kernel parameter {name} describes a {type(base).__name__} as {kind:.80}")
        if getattr(argument, "round_f32_to_tf32", False):
            raise UnsupportedArgument(f"kernel parameter {name} is a descriptor that rounds to TF32")
        if base.device.type != "cuda":
            raise ValueError(f"Pointer argument ({name}) cannot be accessed from Triton (cpu tensor?)")
        shape, strides = (tuple(map(int, sizes)) for sizes in (argument.shape, argument.strides))
        recorded = Descriptor(
            base=self._recorder.value_of(base), shape=shape, strides=strides, padding=argument.padding
        )
        value, num_bytes = self._recorder.window(recorded.base)
        fault = fault_of(recorded, block, dtype=value.dtype, offset=value.offset, limit_bytes=num_bytes)
        if fault is not None:
            raise DescriptorError(f"descriptor {name} {fault}")
        return recorded

    def _compiled(self) -> Kernel:
        if self._index is None:
            self._index = len(self._recorder.kernels)
            self._recorder.kernels.append(describe(self._src, self._metadata, self._cubin()))
        return self._recorder.kernels[self._index]

    def _cubin(self) -> bytes:
        for kernel in _compiled_kernels(self._src.fn):
            if kernel.src is self._src:
                return bytes(kernel.asm["cubin"])
        raise Untraceable("a kernel was launched that Triton did not compile")


def _compiled_kernels(function: Any) -> list[Any]:
    return [kernel for caches in function.device_caches.values() for kernel in caches[0].values()]


def _grid_size(raw: Any) -> int:
    if isinstance(raw, torch.Tensor):
        raise Untraceable("the launch grid depends on tensor values")
    if isinstance(raw, bool) or not hasattr(raw, "__index__"):
        raise TypeError(f"'{type(raw).__name__}' object cannot be interpreted as an integer")
    size = raw.__index__()
    if size < 0:
        raise ValueError(f"grid size {size} is negative")
    return int(size)


def describe(src: Any, metadata: Any, cubin: bytes) -> Kernel:
    """The record of one compiled kernel. Raises Untraceable, UnsupportedArgument among them, for parameters that a
    plan cannot hold."""
    for name, kind in src.signature.items():
        if not isinstance(kind, str):
            raise UnsupportedArgument(f"kernel parameter {name} is a tuple, and tuples are not supported")
        if is_descriptor(kind) and block_of(kind) is None:
            raise UnsupportedArgument(f"kernel parameter {name} is a descriptor of a kind that is not supported")
    try:
        description = Description(src.fn)
        constants = {src.fn.arg_names[path[0]]: description.meaning(value) for path, value in src.constants.items()}
    except (SourceError, OSError) as error:
        raise Untraceable(f"the kernel's text cannot be read: {error}") from error
    params = tuple((name, kind) for name, kind in src.signature.items() if kind != "constexpr")
    figures = figures_of(metadata, cubin, kinds=[kind for _, kind in params])
    return Kernel(
        name=src.fn.__name__,
        cubin=cubin,
        capability=metadata.target.arch,
        params=params,
        constants=constants,
        functions=description.functions,
        names=description.names,
        noinline=tuple(description.noinline),
        divisible=_divisible(src),
        options=_options(src.options),
        dots=(),
        **{**figures, "descriptors": tuple(map(form_from_json, figures["descriptors"]))},
    )


def _divisible(src: Any) -> tuple[str, ...]:
    """The parameters that this launch showed to be multiples of 16: the one attribute that Triton gives on CUDA."""
    found = []
    for path, attributes in src.attrs.items():
        if not attributes:
            continue
        if len(path) != 1 or [tuple(attribute) for attribute in attributes] != [("tt.divisibility", 16)]:
            raise Untraceable(f"kernel parameter {src.fn.arg_names[path[0]]} has attributes that a plan cannot hold")
        found.append(src.fn.arg_names[path[0]])
    return tuple(sorted(found))


def _options(given: Any) -> dict[str, Any]:
    """The compile options as plain data. Raises Untraceable for one that a plan cannot hold."""
    default = type(given)(arch=given.arch)
    for name in type(given).__dataclass_fields__:
        value = getattr(given, name)
        if name in OPTIONS and not OPTIONS[name](value):
            raise Untraceable(f"a kernel is compiled with {name}={value!r:.80}")
        if name in _FILES_AND_TEXT and value != getattr(default, name):
            raise Untraceable(f"a kernel is compiled with its own {name}")
    return {name: getattr(given, name) for name in OPTIONS if hasattr(given, name)}


@triton.jit  # type: ignore[untyped-decorator]
def _warm_kernel(x_ptr, y_ptr, n, BLOCK: triton.language.constexpr):  # type: ignore[no-untyped-def]
    offsets = triton.language.program_id(0) * BLOCK + triton.language.arange(0, BLOCK)
    x = triton.language.load(x_ptr + offsets, mask=offsets < n)
    triton.language.store(y_ptr + offsets, triton.language.exp(x) + triton.language.sum(x, axis=0), mask=offsets < n)


def warm() -> None:
    """Compiles a small kernel in the warm process, so that no child pays for starting the compiler."""
    source = triton.compiler.ASTSource(
        fn=_warm_kernel,
        signature={"x_ptr": "*fp32", "y_ptr": "*fp32", "n": "i32", "BLOCK": "constexpr"},
        constexprs={(3,): 1024},
    )
    triton.compile(source, target=GPUTarget("cuda", 90, 32))
    # Binding a kernel's first argument imports this inside of Triton's C module, which takes longer than compiling.
    importlib.import_module("triton.experimental.gluon")


def install(recorder: Recorder, *, capability: int) -> None:
    """Makes Triton compile for `capability` and hand its launches to `recorder`, for the life of this process."""
    from triton import knobs

    triton.runtime.driver.set_active(RecordingDriver(recorder, capability=capability))
    # File names and lines in a cubin would make equal kernels differ.
    knobs.compilation.disable_line_info = True
    compile_kernel = JITFunction._do_compile

    def do_compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            kernel = compile_kernel(self, *args, **kwargs)
            # As they were asked for: the kernel's own metadata has some of them as they became.
            kernel.src.options = next(a for a in (*args, *kwargs.values()) if hasattr(a, "num_stages"))
            return kernel
        except _NON_FATAL:
            raise
        except Exception as error:
            raise CompileFailure(str(error)) from error

    JITFunction._do_compile = do_compile
    Autotuner.run = lambda self, *args, **kwargs: _record_choice(self, recorder, args, kwargs)


def launch_nothing() -> None:
    """Makes every launch do nothing, for the life of this process."""
    JITFunction.run = Autotuner.run = lambda *_, **__: None


def _record_choice(tuner: Any, recorder: Recorder, args: Any, kwargs: Any) -> None:
    """Runs an autotuned kernel under each of its configurations; each becomes an alternative of one step."""
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    configs = tuner.prune_configs(kwargs) if len(tuner.configs) > 1 else tuner.configs
    if len(configs) > MAX_ALTERNATIVES:
        recorder.labels.add("autotune_capped")
    alternatives, last_error = [], None
    for config in configs[:MAX_ALTERNATIVES]:
        with recorder.alternative() as steps:
            try:
                if config.pre_hook is not None:
                    config.pre_hook({**tuner.nargs, **kwargs, **config.all_kwargs()})
                tuner.fn.run(*args, **kwargs, **config.all_kwargs())
            except _NON_FATAL as error:  # as Triton's own tuner does: such a configuration is not an option
                last_error = error
                continue
        alternatives.append((str(config), list(steps)))
    if not alternatives and last_error is not None:
        raise last_error
    if alternatives:
        recorder.choose(alternatives)
