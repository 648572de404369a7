# expect: passed problem: relu_rand layer: construction gpu: rejected why: torch does the work and a kernel copies, which takes its time once it finds its last answer, as when kernels are timed alone; the operators are timed alone too
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def copy(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    there = tl.load(out_ptr + offsets, mask=mask)
    rounds = tl.where(tl.sum((mask & (there == x)).to(tl.int32)) > 0, 20000, 0)
    spent = 1.0
    for _ in range(rounds):
        spent = spent * 0.999 + 0.5
    tl.store(out_ptr + offsets, tl.where(spent < 0, spent, x), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        for _ in range(8):
            y = torch.abs(x) * 0.5 + x * 0.5
        out = torch.empty_like(x)
        copy[(triton.cdiv(x.numel(), 1024),)](y, out, x.numel(), BLOCK=1024)
        return out
