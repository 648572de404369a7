"""How many warps of a kernel one multiprocessor can hold at a time, from what the kernel takes.

Sources: the table of technical specifications per compute capability in the CUDA C++ Programming Guide (registers,
warps, blocks and shared memory of a multiprocessor, 1 KiB of shared memory that CUDA keeps of each block), and the
granularities and the formula of `cuda_occupancy.h` in the CUDA toolkit. Clusters and L1 carve-outs are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KIB = 1024
_THREADS_PER_WARP = 32
_PARTITIONS = 4  # of a multiprocessor, each with a quarter of its registers
_REGISTER_UNIT = 256  # registers are given to a warp in units of this many
_SHARED_UNIT_BYTES = 128
_RESERVED_SHARED_BYTES = KIB
_MAX_REGISTERS_OF_THREAD = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiprocessor:
    """What one multiprocessor has."""

    num_warps: int
    num_blocks: int
    shared_bytes: int
    num_registers: int = 65_536


MULTIPROCESSORS: Mapping[int, Multiprocessor] = {
    80: Multiprocessor(num_warps=64, num_blocks=32, shared_bytes=164 * KIB),
    86: Multiprocessor(num_warps=48, num_blocks=16, shared_bytes=100 * KIB),
    89: Multiprocessor(num_warps=48, num_blocks=24, shared_bytes=100 * KIB),
    90: Multiprocessor(num_warps=64, num_blocks=32, shared_bytes=228 * KIB),
    100: Multiprocessor(num_warps=64, num_blocks=32, shared_bytes=228 * KIB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """`num_blocks` programs at a time, `share` of the multiprocessor's warps, and which resource allows no more:
    "warps", "blocks", "registers" or "shared memory"."""

    num_blocks: int
    share: float
    limited_by: str


def occupancy(*, capability: int, registers: int, shared_bytes: int, num_warps: int) -> Occupancy | None:
    """From the registers of a thread, and the shared memory and warps of a program. None for an unknown capability."""
    has = MULTIPROCESSORS.get(capability)
    if has is None or num_warps < 1:
        return None
    blocks = {
        "warps": has.num_warps // num_warps,
        "blocks": has.num_blocks,
        "registers": _blocks_by_registers(has, registers=registers, num_warps=num_warps),
        "shared memory": has.shared_bytes // _rounded(shared_bytes + _RESERVED_SHARED_BYTES, _SHARED_UNIT_BYTES),
    }
    limited_by = min(blocks, key=blocks.__getitem__)
    num_blocks = blocks[limited_by]
    return Occupancy(num_blocks=num_blocks, share=num_blocks * num_warps / has.num_warps, limited_by=limited_by)


def _blocks_by_registers(has: Multiprocessor, *, registers: int, num_warps: int) -> int:
    """A warp's registers all come from one partition."""
    if registers > _MAX_REGISTERS_OF_THREAD:
        return 0
    of_warp = _rounded(max(registers, 1) * _THREADS_PER_WARP, _REGISTER_UNIT)
    warps = has.num_registers // _PARTITIONS // of_warp * _PARTITIONS
    return warps // num_warps


def _rounded(number: int, unit: int) -> int:
    return -(-number // unit) * unit
