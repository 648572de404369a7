# problem: hidden_state
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def step(x_ptr, hidden_ptr, new_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = offsets < n
    given = tl.load(x_ptr + offsets, mask=mask) + 0.5 * tl.load(hidden_ptr + offsets, mask=mask)
    new = 1 - 2 / (1 + tl.exp(2 * given))
    tl.store(new_ptr + offsets, new, mask=mask)
    tl.store(out_ptr + offsets, 2 * new, mask=mask)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.full((8, 16), 0.5)

    def forward(self, x):
        out, new = torch.empty_like(x), torch.empty_like(x)
        step[(1,)](x, self.hidden, new, out, x.numel(), BLOCK=128)
        self.hidden = new
        return out
