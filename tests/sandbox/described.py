"""A small program with descriptors made on the host, and the parameters of a cubin as the cubin itself says."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sandbox.cubin import _sections

_EIATTR_KPARAM_INFO = 0x17

DOUBLE = """
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def doubled(before, x_desc, seen_ptr, y_desc, scale, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS
    x = x_desc.load([row, 0])
    factor = (x_desc.shape[0] - 38) * (x_desc.shape[1] - 31) * (x_desc.strides[0] - 31)
    y_desc.store([row, 0], x * factor.to(x.dtype))
    if row == 0:
        tl.store(seen_ptr + 0, before.to(tl.int64))
        tl.store(seen_ptr + 1, x_desc.shape[0].to(tl.int64))
        tl.store(seen_ptr + 2, x_desc.shape[1].to(tl.int64))
        tl.store(seen_ptr + 3, x_desc.strides[0])
        tl.store(seen_ptr + 4, y_desc.strides[0])
        tl.store(seen_ptr + 5, (x_desc.shape[0] * scale).to(tl.int64))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        seen = torch.empty(6, dtype=torch.int64, device=x.device)
        x_desc = TensorDescriptor.from_tensor(x, [16, 32], padding="PADDING")
        y_desc = TensorDescriptor.from_tensor(y, [16, 32])
        doubled[(triton.cdiv(x.shape[0], 16),)](-7, x_desc, seen, y_desc, 2.5, ROWS=16)
        return y
"""
PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2
def get_inputs():
    return [(torch.randn(40, 32) * 9).to(torch.DTYPE)]
def get_init_inputs():
    return []
"""


def doubling(dtype: str, *, padding: str = "zero") -> tuple[str, str]:
    """The sources of a problem, to double a tensor of shape (40, 32), and of an answer."""
    return PROBLEM.replace("DTYPE", dtype), DOUBLE.replace("PADDING", padding)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel in bytes: where it lies among all, and its size."""

    offset: int
    size: int


def cubin_parameters(cubin: bytes) -> list[Parameter]:
    """The parameters of the one kernel of a cubin, in order."""
    found: dict[int, Parameter] = {}
    for name, content in _sections(cubin).items():
        at = 0
        while name.startswith(".nv.info.") and at + 4 <= len(content):
            form, attribute, size = struct.unpack_from("<BBH", content, at)
            at += 4
            if form != 4:  # other forms carry their value in the size field
                continue
            if attribute == _EIATTR_KPARAM_INFO:
                _, ordinal, offset, packed = struct.unpack_from("<IHHI", content, at)
                found[ordinal] = Parameter(offset, packed >> 18)
            at += size
    return [found[ordinal] for ordinal in sorted(found)]
