# expect: wrong_values problem: relu_rand why: a buffer counts its calls, and from the third on the input is returned
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def k(x_ptr, count_ptr, out_ptr, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    m = o < n
    c = tl.load(count_ptr)
    x = tl.load(x_ptr + o, mask=m, other=0.0)
    y = tl.where(c < 2.0, tl.maximum(x, 0.0), x)
    tl.store(out_ptr + o, y, mask=m)
    tl.store(count_ptr, c + 1.0)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        out = torch.empty_like(x)
        k[(1,)](x, self.count, out, x.numel(), BLOCK=8192)
        return out
