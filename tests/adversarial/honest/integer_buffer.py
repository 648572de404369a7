# problem: step_count
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, steps_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    steps = tl.load(steps_ptr).to(tl.float32)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * steps, mask=mask)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 1024),)](x, self.steps, out, x.numel(), BLOCK=1024)
        return out
