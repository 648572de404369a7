# problem: scaled_by_number
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, out_ptr, factor: tl.float32, n: tl.int32, BLOCK: tl.constexpr = 256, UNROLL: tl.constexpr = 2):
    start = tl.program_id(0) * BLOCK * UNROLL
    for i in tl.static_range(UNROLL):
        offsets = start + i * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < n
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * factor, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x, factor):
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 512),)](x, out, factor, x.numel())
        return out
