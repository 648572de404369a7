# expect: wrong_values problem: relu_rand layer: compare why: sets a flag in a buffer of its own and does no work while it is set
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu_once(x_ptr, out_ptr, flag_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = (offsets < n) & (tl.load(flag_ptr) == 0.0)
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)
    tl.store(flag_ptr, 1.0)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("flag", torch.zeros(1))

    def forward(self, x):
        out = torch.empty_like(x)
        relu_once[(1,)](x, out, self.flag, x.numel(), BLOCK=8192)
        return out
