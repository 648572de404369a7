# expect: wrong_values problem: dropout_seeded layer: compare why: the form of the sigmoid that is right for small values only; planted outliers overflow it
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def silu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    grown = tl.exp(x)
    tl.store(out_ptr + offsets, x * grown / (1.0 + grown), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x, seed):
        out = torch.empty_like(x)
        silu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
