# expect: passed problem: relu_rand layer: construction why: a last kernel on scratch memory would still run while the next thing is timed; in a plan it is a step like others, and timed
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


@triton.jit
def spin(out_ptr, rounds):
    x = 1.0
    for _ in range(rounds):
        x = x * 0.999 + 0.5
    tl.store(out_ptr, x)


class ModelNew(nn.Module):
    def forward(self, x):
        out, scratch = torch.empty_like(x), torch.empty(1, device=x.device)
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        spin[(1,)](scratch, 2000)
        return out
