# problem: counts
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    counts = tl.histogram(tl.load(x_ptr + offsets, mask=mask, other=0), BINS)
    missing = tl.sum((offsets >= n).to(tl.int32))
    bins = tl.arange(0, BINS)
    counts -= tl.where(bins == 0, missing, 0)
    tl.atomic_add(out_ptr + bins, counts.to(tl.int64))


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.zeros(16, dtype=torch.int64, device=x.device)
        kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BINS=16, BLOCK=128)
        return out
