# problem: brain_leaky
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=-1.0)
    y = tl.load(y_ptr + offsets, mask=mask)
    one = tl.full((BLOCK,), 1.0, x.dtype)
    larger = x > y
    tl.store(out_ptr + offsets, tl.where(larger, x + one, -x * 0.25), mask=mask & (larger | (x <= y)))


class ModelNew(nn.Module):
    def forward(self, x, y):
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), BLOCK=256)
        return out
