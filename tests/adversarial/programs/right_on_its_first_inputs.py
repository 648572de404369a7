# expect: wrong_values problem: relu_rand why: it keeps its first answer in a buffer and gives it for whatever comes later
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def k(x_ptr, cache_ptr, flag_ptr, out_ptr, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    m = o < n
    if tl.load(flag_ptr) == 0.0:
        y = tl.maximum(tl.load(x_ptr + o, mask=m, other=0.0), 0.0)
        tl.store(cache_ptr + o, y, mask=m)
        tl.store(flag_ptr, 1.0)
        tl.store(out_ptr + o, y, mask=m)
    else:
        tl.store(out_ptr + o, tl.load(cache_ptr + o, mask=m), mask=m)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("flag", torch.zeros(1))
        self.register_buffer("cache", torch.zeros(6400))

    def forward(self, x):
        out = torch.empty_like(x)
        k[(1,)](x, self.cache, self.flag, out, x.numel(), BLOCK=8192)
        return out
