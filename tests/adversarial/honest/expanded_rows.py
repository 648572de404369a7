# problem: expanded_input
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, out_ptr, xs0, xs1, ys0, ys1, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    x = tl.load(x_ptr + row * xs0 + columns * xs1, mask=mask)
    y = tl.load(y_ptr + row * ys0 + columns * ys1, mask=mask)
    tl.store(out_ptr + row * n + columns, x * 2.0 + y, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x, y):
        out = torch.empty_like(y)
        kernel[(y.shape[0],)](x, y, out, *x.stride(), *y.stride(), y.shape[1], BLOCK=128)
        return out
