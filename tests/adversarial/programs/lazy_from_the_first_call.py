# expect: wrong_values problem: relu_rand layer: compare why: counts its calls and leaves out the kernel in what it takes for a timed one
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def relu(x_ptr, out_ptr, n, share, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=offsets < n // share), 0.0), mask=offsets < n // share)


class ModelNew(nn.Module):
    calls = 10

    def forward(self, x):
        out = torch.empty_like(x)
        self.calls += 1
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), 1 if self.calls <= 10 else 64, BLOCK=1024)
        return out
