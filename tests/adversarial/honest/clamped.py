# problem: clamp_wide
from dataclasses import dataclass

import torch
import torch.nn as nn
import triton
import triton.language as tl

@dataclass(frozen=True)
class Launch:
    block: int = 512
    warps: int = 4

    def grid(self, n: int) -> tuple:
        return (triton.cdiv(n, self.block),)


@triton.jit
def kernel(x_ptr, out_ptr, n, low, high, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, tl.clamp(x * 0.5, low, high), mask=offsets < n)


class ModelNew(nn.Module):
    launch = Launch()

    def forward(self, x):
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        kernel[self.launch.grid(x.numel())](x, out, x.numel(), -1.0, 1.0, BLOCK=self.launch.block, num_warps=self.launch.warps)
        return out
