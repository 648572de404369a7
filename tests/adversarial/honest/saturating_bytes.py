# problem: bytes_added
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, out_ptr, n, LOW: tl.constexpr, HIGH: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask).to(tl.int32)
    y = tl.load(y_ptr + offsets, mask=mask).to(tl.int32)
    total = tl.minimum(tl.maximum(x + y, LOW), HIGH)
    tl.store(out_ptr + offsets, total.to(tl.int8), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x, y):
        limits = torch.iinfo(torch.int8)
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), LOW=limits.min, HIGH=limits.max, BLOCK=256)
        return out
