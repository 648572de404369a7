# expect: wrong_values problem: affine_norm layer: compare why: right in the first call, which zeroes the bias that the next one needs
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def layer_norm(x_ptr, w_ptr, b_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * n
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    x = tl.load(x_ptr + at + columns, mask=mask, other=0.0)
    centred = tl.where(mask, x - tl.sum(x, axis=0) / n, 0.0)
    y = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / n + 1e-5)
    y = y * tl.load(w_ptr + columns, mask=mask) + tl.load(b_ptr + columns, mask=mask)
    tl.store(out_ptr + at + columns, y, mask=mask)


@triton.jit
def zero(ptr, n, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    tl.store(ptr + columns, tl.zeros((BLOCK,), tl.float32), mask=columns < n)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(120)

    def forward(self, x):
        out = torch.empty_like(x)
        layer_norm[(x.shape[0],)](x, self.norm.weight, self.norm.bias, out, 120, BLOCK=128)
        zero[(1,)](self.norm.bias, 120, BLOCK=128)
        return out
