# expect: passed problem: relu_rand layer: construction why: honest in the first call and lazy later, but the plan is fixed by the only call there is
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=offsets < n), 0.0), mask=offsets < n)


class ModelNew(nn.Module):
    calls = 0

    def forward(self, x):
        out = torch.empty_like(x)
        type(self).calls += 1
        if self.calls <= 1:
            relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
