# problem: column_maxima
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, rows, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rm = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + rm[:, None] * n + cols[None, :], mask=(rm < rows)[:, None] & (cols < n)[None, :], other=float("-inf"))
    tl.atomic_max(out_ptr + cols, tl.max(x, axis=0), mask=cols < n)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.full((x.shape[1],), float("-inf"), device=x.device, dtype=x.dtype)
        kernel[(triton.cdiv(x.shape[0], 16),)](x, out, *x.shape, ROWS=16, BLOCK=64)
        return out
