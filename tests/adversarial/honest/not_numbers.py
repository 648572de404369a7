# problem: not_numbers
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, log_ptr, root_ptr, inverse_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=1.0)
    tl.store(log_ptr + offsets, tl.log(x), mask=mask)
    tl.store(root_ptr + offsets, tl.sqrt(x), mask=mask)
    tl.store(inverse_ptr + offsets, 1.0 / tl.maximum(x, 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        outs = tuple(torch.empty_like(x) for _ in range(3))
        kernel[(triton.cdiv(x.numel(), 128),)](x, *outs, x.numel(), BLOCK=128)
        return outs
