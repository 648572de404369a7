# expect: timeout|unverified problem: relu_rand layer: deadline limits: wall=4 why: one program counts for many seconds before it stores
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def slow_kernel(x_ptr, out_ptr, n, steps, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    drift = x
    for _ in range(steps):
        drift = tl.exp(-drift * drift)
    tl.store(out_ptr + offsets, tl.where(drift < 2.0, tl.maximum(x, 0.0), drift), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        slow_kernel[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), 400_000_000, BLOCK=1024)
        return out
