"""Keeps tensors in device memory that no address leads to, but while one of them is read.

A kernel that runs meanwhile finds no answer, however it searches: there is nothing in its address space to find. Uses
CUDA's virtual memory management. Knows nothing of what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sandbox.cuda_driver import CudaDriver
from sandbox.cuda_fault import DeviceMemoryFault

# The device gives memory in pieces of 2 MiB: what is smaller is better off on the host. Larger ones would take what the
# problem itself needs.
_LEAST_BYTES, _MOST_BYTES = 1 << 20, 1 << 30


class Vault:
    """At most `limit_bytes` of the device."""

    def __init__(self, driver: CudaDriver, *, device: torch.device, limit_bytes: int) -> None:
        self._driver, self._limit_bytes, self.num_bytes = driver, limit_bytes, 0
        bindings = driver.bindings
        place = bindings.CUmemLocation()
        place.type, place.id = bindings.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, device.index
        self._properties, self._access = bindings.CUmemAllocationProp(), bindings.CUmemAccessDesc()
        self._properties.type = bindings.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        self._properties.location = self._access.location = place
        self._access.flags = bindings.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        smallest = bindings.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        self._granularity = int(self._call("cuMemGetAllocationGranularity", self._properties, smallest))

    def keep(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor] | None:
        """A copy of `tensor`: what is returned gives it, in memory that is mapped for as long as that tensor lives.
        None where there is no room for it."""
        size = -(-tensor.nbytes // self._granularity) * self._granularity
        if not _LEAST_BYTES <= tensor.nbytes <= _MOST_BYTES or self.num_bytes + size > self._limit_bytes:
            return None
        try:
            kept = _Kept(self, size)
        except DeviceMemoryFault:
            return None
        return kept.filled(tensor)

    def map(self, handle: Any, size: int) -> int:
        """The address at which that memory can be used from now on."""
        address = int(self._call("cuMemAddressReserve", size, 0, 0, 0))
        self._call("cuMemMap", address, size, 0, handle, 0)
        self._call("cuMemSetAccess", address, size, [self._access], 1)
        return address

    def unmap(self, address: int, size: int) -> None:
        """Ends `map`, once nothing uses the memory any more. A dead context refuses, and ends with its process."""
        bindings = self._driver.bindings
        bindings.cuCtxSynchronize()
        bindings.cuMemUnmap(address, size)
        bindings.cuMemAddressFree(address, size)

    def take(self, size: int) -> Any:
        """Memory without an address. Raises DeviceMemoryFault."""
        handle = self._call("cuMemCreate", size, self._properties, 0)
        self.num_bytes += size
        return handle

    def give_back(self, handle: Any, size: int) -> None:
        self._driver.bindings.cuMemRelease(handle)
        self.num_bytes -= size

    def _call(self, name: str, *args: Any) -> Any:
        return self._driver.call(name, *args, subject="keeping an answer out of reach")


class _Kept:
    """One tensor's memory, given back with this record."""

    def __init__(self, vault: Vault, size: int) -> None:
        self._vault, self._size = vault, size
        self._handle = vault.take(size)
        self._dtype, self._shape = torch.uint8, torch.Size([size])

    def filled(self, tensor: torch.Tensor) -> _Kept:
        self._dtype, self._shape = tensor.dtype, tensor.shape
        self().copy_(tensor)
        return self

    def __call__(self) -> torch.Tensor:
        num_bytes = self._shape.numel() * self._dtype.itemsize
        # torch holds the mapping for as long as any tensor is on it.
        whole = torch.as_tensor(_Mapping(self, self._vault, self._handle, self._size), device="cuda")
        return whole[:num_bytes].view(self._dtype).reshape(self._shape)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._vault.give_back(self._handle, self._size)


class _Mapping:
    """Addresses that lead to kept memory, as other libraries' memory is told to torch."""

    def __init__(self, kept: _Kept, vault: Vault, handle: Any, size: int) -> None:
        self._kept, self._vault, self._size = kept, vault, size  # the memory must outlive the addresses
        self._address = vault.map(handle, size)
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (self._address, False), "strides": None, "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._vault.unmap(self._address, self._size)
