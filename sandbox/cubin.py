"""The figures of a compiled kernel: what Triton says of it, and the registers and the stack that CUDA would tell.

A cubin is an ELF file; what is read comes from Triton's own ptxas, in the process that ran it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from sandbox.descriptor_forms import descriptor_forms
from sandbox.descriptors import is_descriptor


def _sections(cubin: bytes) -> dict[str, bytes]:
    """ELF64 sections by name."""
    offset, entry_size, count, names_at = struct.unpack_from("<Q", cubin, 40)[0], *struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, offset + i * entry_size) for i in range(count)]
    strings = headers[names_at]
    table = cubin[strings[4] : strings[4] + strings[5]]
    named = {}
    for header in headers:
        name = table[header[0] : table.index(b"\0", header[0])].decode(errors="replace")
        content = b"" if header[1] == 8 else cubin[header[4] : header[4] + header[5]]  # type 8: no content in the file
        named[name] = content
    return named


def has_variables(cubin: bytes, *, assembly: bool) -> bool:
    """Whether a cubin brings variables in device memory along, which outlive a launch.

    Triton itself makes only initialised ones, the texts of `device_print` and `device_assert`; beside inline assembly
    (`assembly`) these cannot be told from what that declares.
    """
    return any(name == ".nv.global" or (assembly and name.startswith(".nv.global")) for name in _sections(cubin))


# Attributes of a cubin's .nv.info section (NVIDIA's `cuobjdump -elf` prints these names).
_EIATTR_FRAME_SIZE, _EIATTR_REGCOUNT = 0x11, 0x2F


def cubin_registers(cubin: bytes) -> int:
    """Registers a thread."""
    return _cubin_attribute(cubin, _EIATTR_REGCOUNT)


def cubin_local_bytes(cubin: bytes) -> int:
    """Stack frame of a thread in bytes, spills included."""
    return _cubin_attribute(cubin, _EIATTR_FRAME_SIZE)


def _cubin_attribute(cubin: bytes, wanted: int) -> int:
    """The largest value of an attribute over the cubin's functions; 0 where it has none."""
    content, at, largest = _sections(cubin).get(".nv.info", b""), 0, 0
    while at + 4 <= len(content):
        form, attribute, size = struct.unpack_from("<BBH", content, at)
        at += 4
        if form == 4:  # (symbol, value) follows; other forms carry their value in the size field
            if attribute == wanted and size >= 8:
                largest = max(largest, struct.unpack_from("<II", content, at)[1])
            at += size
    return largest


def figures_of(metadata: Any, cubin: bytes, *, kinds: Iterable[str]) -> dict[str, Any]:
    """What the compiler says of a kernel that it made with parameters of such kinds, as JSON, named as the fields of
    `plan.Kernel`."""
    return {
        "entry": metadata.name,
        "num_warps": metadata.num_warps,
        "num_ctas": metadata.num_ctas,
        "shared_bytes": metadata.shared,
        "global_scratch_bytes": metadata.global_scratch_size,
        "global_scratch_align": metadata.global_scratch_align,
        "profile_scratch_bytes": metadata.profile_scratch_size or 0,
        "cooperative": bool(metadata.launch_cooperative_grid),
        "pdl": bool(metadata.launch_pdl),
        "num_registers": cubin_registers(cubin),
        "local_bytes": cubin_local_bytes(cubin),
        "descriptors": descriptor_forms(metadata, num_descriptors=sum(map(is_descriptor, kinds))),
    }
