# problem: empty_and_full
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def double(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n) * 2, mask=offsets < n)


def doubled(x):
    out = torch.empty_like(x)
    if x.numel():
        double[(triton.cdiv(x.numel(), 32),)](x, out, x.numel(), BLOCK=32, num_warps=1)
    return out


class ModelNew(nn.Module):
    def forward(self, x, y):
        return doubled(x), doubled(y)
