"""Loads cubins and launches them through the CUDA driver, in torch's context and on the caller's stream.

Knows nothing of plans as a whole, of tensors or of whether an answer is right. `cuda.bindings` is imported when a
driver is made, so the packing of arguments can be used and tested on a machine without CUDA.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sandbox.cuda_fault import CudaFault, LaunchFault, fault_named
from sandbox.descriptors import Descriptor, Form, TensorMap, block_of
from sandbox.plan import SCALAR_BYTES, Kernel, LaunchStep
from sandbox.tensor_map import MAP_ALIGN, MAP_BYTES, driver_encoder, encoded, tiling

_POINTER_BYTES = 8
_WARP_THREADS = 32
_STATIC_SHARED_BYTES = 48 << 10  # beyond this a kernel has to ask for dynamic shared memory by attribute
_PORTABLE_CLUSTER = 8
# Triton 3.6 and 3.7 append pointers to global scratch and to profile scratch; older compilers appended one or none.
_MAX_SCRATCH_POINTERS = 2


def pack_scalar(kind: str, value: int | float | bool) -> bytes:
    """A scalar as Triton's launcher stores it: integers wrap, fp32 rounds and overflows to infinity, bf16 truncates."""
    size = SCALAR_BYTES[kind]
    try:
        match kind:
            case "fp64":
                return struct.pack("<d", float(value))
            case "fp32" | "f32":
                return bytes(ctypes.c_float(value))
            case "bf16":
                return bytes(ctypes.c_float(value))[2:]
            case "fp16":
                return struct.pack("<e", float(value))
            case _:
                return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    except OverflowError as error:
        raise LaunchFault("INVALID_VALUE", f"an argument does not fit into {kind}") from error


def parameter_sizes(kernel: Kernel) -> tuple[int, ...]:
    """Bytes of each parameter that the plan passes; a descriptor is several."""
    forms = iter(kernel.descriptors)
    sizes: list[int] = []
    for _, kind in kernel.params:
        if (block := block_of(kind)) is not None:
            sizes += descriptor_sizes(next(forms), rank=len(block.shape))
        else:
            sizes.append(_POINTER_BYTES if kind.startswith("*") else SCALAR_BYTES[kind])
    return tuple(sizes)


def descriptor_sizes(form: Form, *, rank: int) -> list[int]:
    """Bytes of the parameters that a descriptor becomes: as `expand_signature` in triton/backends/nvidia/driver.py."""
    sizes_and_strides = [SCALAR_BYTES["i32"]] * rank + [SCALAR_BYTES["i64"]] * rank
    if isinstance(form, TensorMap):
        return [MAP_BYTES, *sizes_and_strides]
    return [_POINTER_BYTES, *[SCALAR_BYTES["i64"]] * 2 * rank, *[SCALAR_BYTES["i1"]] * form.flags, *sizes_and_strides]


Encode = Callable[[TensorMap, Descriptor, int], bytes]


def packed_descriptor(form: Form, descriptor: Descriptor, *, address: int, encode: Encode) -> list[bytes]:
    """The parameters that a descriptor of memory at `address` becomes; `encode` gives the bytes of a tensor map."""
    shape = [pack_scalar("i32", size) for size in descriptor.shape]
    strides = [pack_scalar("i64", stride) for stride in descriptor.strides]
    if isinstance(form, TensorMap):
        return [encode(form, descriptor, address), *shape, *strides]
    wide = [pack_scalar("i64", size) for size in descriptor.shape]
    flags = [pack_scalar("i1", descriptor.padding == "nan"), pack_scalar("i1", False)][: form.flags]
    return [address.to_bytes(_POINTER_BYTES, "little"), *wide, *strides, *flags, *shape, *strides]


def packed_arguments(step: LaunchStep, kernel: Kernel, *, pointer: Callable[[int], int], encode: Encode) -> list[bytes]:
    """The arguments of a launch as the driver reads them; `pointer` gives the device address of a value."""
    forms = iter(kernel.descriptors)
    packed: list[bytes] = []
    for argument, (_, kind) in zip(step.args, kernel.params, strict=True):
        if isinstance(argument, Descriptor):
            address = pointer(argument.base)
            packed += packed_descriptor(next(forms), argument, address=address, encode=encode)
        elif kind.startswith("*"):
            packed.append(pointer(int(argument)).to_bytes(_POINTER_BYTES, "little"))  # type: ignore[arg-type]
        else:
            packed.append(pack_scalar(kind, argument))  # type: ignore[arg-type]
    return packed


def scratch_pointers(declared: Sequence[int], found: Sequence[int], *, name: str) -> int:
    """How many scratch pointers follow the declared parameters in the cubin, whose own parameter sizes are `found`.

    Raises LaunchFault where they disagree: the driver would read arguments that are not there.
    """
    trailing = tuple(found[len(declared) :])
    agree = tuple(found[: len(declared)]) == tuple(declared) and len(trailing) <= _MAX_SCRATCH_POINTERS
    if not agree or any(size != _POINTER_BYTES for size in trailing):
        raise LaunchFault(
            "INVALID_VALUE", f"kernel {name} takes parameters of {list(found)} bytes, the plan passes {list(declared)}"
        )
    return len(trailing)


class ParameterBlock:
    """Packed arguments and the array of their addresses that the driver reads; `address` is valid while it lives."""

    def __init__(self, packed: Sequence[bytes]) -> None:
        offsets, end = [], 0
        for raw in packed:
            align = MAP_ALIGN if len(raw) > _POINTER_BYTES else _POINTER_BYTES
            offsets.append(-(-end // align) * align)
            end = offsets[-1] + len(raw)
        self._values = ctypes.create_string_buffer(max(end, 1) + MAP_ALIGN)
        base = -(-ctypes.addressof(self._values) // MAP_ALIGN) * MAP_ALIGN
        for offset, raw in zip(offsets, packed, strict=True):
            ctypes.memmove(base + offset, raw, len(raw))
        self._addresses = (ctypes.c_void_p * max(len(packed), 1))(*(base + offset for offset in offsets))
        self.address = ctypes.addressof(self._addresses)


class CudaDriver:
    """The driver in torch's primary context on the current device."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        torch.cuda.synchronize()  # makes torch's primary context current in this thread
        self.bindings: Any = driver
        self._tensor_map_encoder: Any = None

    def call(self, name: str, *args: Any, subject: str) -> Any:
        """Calls a driver function; returns its value (None, one or a tuple). Raises a CudaFault naming `subject`."""
        result, *values = getattr(self.bindings, name)(*args)
        if result:
            raise fault_named(result.name, subject)
        return values[0] if len(values) == 1 else tuple(values) or None

    def synchronise(self) -> None:
        """Waits for everything on the device. Raises StickyFault if a kernel went wrong."""
        self.call("cuCtxSynchronize", subject="running the kernels")

    def reset_persisting_l2(self) -> None:
        """Turns cache lines that a kernel marked as persisting into ordinary ones."""
        self.call("cuCtxResetPersistingL2Cache", subject="resetting L2")

    def tensor_map_encoder(self) -> Any:
        """The driver's `cuTensorMapEncodeTiled`, looked up at its first use."""
        if self._tensor_map_encoder is None:
            self._tensor_map_encoder = driver_encoder()
        return self._tensor_map_encoder

    def load(self, kernel: Kernel) -> LoadedKernel:
        """Raises LaunchFault for a cubin that this device cannot run, or whose parameters are not those of the plan."""
        return LoadedKernel(self, kernel)


class LoadedKernel:
    """One kernel in device memory. `num_registers` and `local_bytes` are the driver's figures, per thread."""

    def __init__(self, driver: CudaDriver, kernel: Kernel) -> None:
        self.driver, self.kernel = driver, kernel
        subject = f"loading kernel {kernel.name}"
        self._module = driver.call("cuModuleLoadData", kernel.cubin, subject=subject)
        try:
            self.function = driver.call("cuModuleGetFunction", self._module, kernel.entry.encode(), subject=subject)
            self.num_scratch_pointers = scratch_pointers(
                parameter_sizes(kernel), self._cubin_parameters(), name=kernel.name
            )
            self.num_registers = self._attribute("NUM_REGS")
            self.local_bytes = self._attribute("LOCAL_SIZE_BYTES")
            self._allow_shared_memory()
        except CudaFault:
            self.unload()
            raise

    def _attribute(self, name: str) -> int:
        attribute = getattr(self.driver.bindings.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(
            self.driver.call("cuFuncGetAttribute", attribute, self.function, subject=f"kernel {self.kernel.name}")
        )

    def _set_attribute(self, name: str, value: int) -> None:
        attribute = getattr(self.driver.bindings.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        subject = f"kernel {self.kernel.name} with {self.kernel.shared_bytes} bytes of shared memory"
        self.driver.call("cuFuncSetAttribute", self.function, attribute, value, subject=subject)

    def _cubin_parameters(self) -> list[int]:
        """The size of each parameter, as the cubin says; the driver ends the list with an error."""
        sizes: list[int] = []
        while len(sizes) <= len(parameter_sizes(self.kernel)) + _MAX_SCRATCH_POINTERS:
            result, *found = self.driver.bindings.cuFuncGetParamInfo(self.function, len(sizes))
            if result:
                return sizes
            sizes.append(int(found[1]))
        return sizes

    def _allow_shared_memory(self) -> None:
        """As Triton's own loader does, so that a kernel has the same split of L1 here as there."""
        if self.kernel.num_ctas > _PORTABLE_CLUSTER:
            self._set_attribute("NON_PORTABLE_CLUSTER_SIZE_ALLOWED", 1)
        if self.kernel.shared_bytes <= _STATIC_SHARED_BYTES:
            return
        prefer = self.driver.bindings.CUfunc_cache.CU_FUNC_CACHE_PREFER_SHARED
        self.driver.call("cuFuncSetCacheConfig", self.function, prefer, subject=f"kernel {self.kernel.name}")
        limit = int(torch.cuda.get_device_properties().shared_memory_per_block_optin)  # type: ignore[attr-defined]
        self._set_attribute("MAX_DYNAMIC_SHARED_SIZE_BYTES", limit - self._attribute("SHARED_SIZE_BYTES"))

    def _encoded(self, form: TensorMap, descriptor: Descriptor, address: int) -> bytes:
        """Raises LaunchFault for a descriptor that the driver does not take."""
        result, raw = encoded(self.driver.tensor_map_encoder(), form, descriptor, address=address)
        if result:
            told = f"{tiling(form, descriptor)}, {form}, padding {descriptor.padding}"
            name = self.driver.bindings.CUresult(result).name
            raise fault_named(name, f"encoding a descriptor of kernel {self.kernel.name} at {address:#x} ({told})")
        return raw

    def prepare(self, step: LaunchStep, pointer: Callable[[int], int]) -> PreparedLaunch:
        """A launch with its arguments packed; `pointer` gives the device address of a value."""
        packed = packed_arguments(step, self.kernel, pointer=pointer, encode=self._encoded)
        programs = step.grid[0] * step.grid[1] * step.grid[2] * self.kernel.num_ctas
        sizes = (self.kernel.global_scratch_bytes, self.kernel.profile_scratch_bytes)
        scratch = [_Scratch(programs * size, align=self.kernel.global_scratch_align) for size in sizes]
        packed += [s.address.to_bytes(_POINTER_BYTES, "little") for s in scratch[: self.num_scratch_pointers]]
        return PreparedLaunch(self, step.grid, ParameterBlock(packed), kept_alive=scratch)

    def unload(self) -> None:
        """Frees the code. The caller has waited for every launch and dropped every graph that uses it."""
        self.driver.call("cuModuleUnload", self._module, subject="unloading a kernel")


class _Scratch:
    """Device memory that a kernel needs beside its arguments. Raises torch.OutOfMemoryError."""

    def __init__(self, num_bytes: int, *, align: int) -> None:
        self.address = 0
        if num_bytes:
            self._memory = torch.empty(num_bytes + align, dtype=torch.uint8, device="cuda")
            self.address = -(-self._memory.data_ptr() // align) * align


class PreparedLaunch:
    """A launch that costs microseconds to repeat."""

    def __init__(
        self, loaded: LoadedKernel, grid: tuple[int, int, int], block: ParameterBlock, *, kept_alive: object
    ) -> None:
        kernel = loaded.kernel
        self._kept_alive, self._block = (loaded, kept_alive), block
        self._subject = f"kernel {kernel.name} with grid {grid}"
        self._function = loaded.function
        self._empty = 0 in grid
        bindings = loaded.driver.bindings
        self._config = (
            _config(bindings, kernel, grid) if kernel.num_ctas > 1 or kernel.pdl or kernel.cooperative else None
        )
        self._launch_plain, self._launch_extended = bindings.cuLaunchKernel, bindings.cuLaunchKernelEx
        self._shape = (*grid, _WARP_THREADS * kernel.num_warps, 1, 1, kernel.shared_bytes)

    def __call__(self, stream: int) -> None:
        """Enqueues the launch. Raises LaunchFault, or StickyFault from something that ran before."""
        if self._empty:
            return
        if self._config is None:
            (result,) = self._launch_plain(self._function, *self._shape, stream, self._block.address, 0)
        else:
            self._config.hStream = stream
            (result,) = self._launch_extended(self._config, self._function, self._block.address, 0)
        if result:
            raise fault_named(result.name, self._subject)


def _config(bindings: Any, kernel: Kernel, grid: tuple[int, int, int]) -> Any:
    """A launch configuration with the attributes that Triton's own launcher would set."""
    config = bindings.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid[0] * kernel.num_ctas, grid[1], grid[2]
    config.blockDimX, config.blockDimY, config.blockDimZ = _WARP_THREADS * kernel.num_warps, 1, 1
    config.sharedMemBytes = kernel.shared_bytes
    attributes = []
    if kernel.pdl:
        attributes.append(_attribute(bindings, "PROGRAMMATIC_STREAM_SERIALIZATION"))
        attributes[-1].value.programmaticStreamSerializationAllowed = 1
    if kernel.cooperative:
        attributes.append(_attribute(bindings, "COOPERATIVE"))
        attributes[-1].value.cooperative = 1
    if kernel.num_ctas > 1:
        cluster = _attribute(bindings, "CLUSTER_DIMENSION")
        cluster.value.clusterDim.x, cluster.value.clusterDim.y, cluster.value.clusterDim.z = kernel.num_ctas, 1, 1
        spread = _attribute(bindings, "CLUSTER_SCHEDULING_POLICY_PREFERENCE")
        policy = bindings.CUclusterSchedulingPolicy.CU_CLUSTER_SCHEDULING_POLICY_SPREAD
        spread.value.clusterSchedulingPolicyPreference = policy
        attributes += [cluster, spread]
    config.attrs, config.numAttrs = attributes, len(attributes)
    return config


def _attribute(bindings: Any, name: str) -> Any:
    attribute = bindings.CUlaunchAttribute()
    attribute.id = getattr(bindings.CUlaunchAttributeID, f"CU_LAUNCH_ATTRIBUTE_{name}")
    return attribute
