# problem: double_logits
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=float("-inf"))
    x = x - tl.max(x, axis=0)
    tl.store(out_ptr + row * n + cols, x - tl.log(tl.sum(tl.exp(x), axis=0)), mask=cols < n)


class ModelNew(nn.Module):
    def forward(self, x):
        assert x.dtype is torch.float64
        out = torch.empty_like(x)
        kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=64)
        return out
