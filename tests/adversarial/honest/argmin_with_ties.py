# problem: first_smallest
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, rows, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rm, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    mask = (rm < rows)[:, None] & (cols < n)[None, :]
    x = tl.load(x_ptr + rm[:, None] * n + cols[None, :], mask=mask, other=2147483647)
    place = tl.argmin(x, axis=1, tie_break_left=True)
    tl.store(out_ptr + rm, place.to(tl.int64), mask=rm < rows)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.full((x.shape[0],), -1, dtype=torch.int64, device=x.device)
        kernel[(triton.cdiv(x.shape[0], 8),)](x, out, *x.shape, ROWS=8, BLOCK=64)
        return out
