# expect: rejected problem: repeated_row layer: check why: one row is computed and expanded with stride zero
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def column_sum_kernel(x_ptr, out_ptr, rows, columns, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = offsets < columns
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for row in range(rows):
        total += tl.load(x_ptr + row * columns + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + offsets, total, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty((1, x.shape[1]), device=x.device, dtype=x.dtype)
        column_sum_kernel[(1,)](x, out, x.shape[0], x.shape[1], BLOCK=128)
        return out.expand(x.shape[0], -1)
