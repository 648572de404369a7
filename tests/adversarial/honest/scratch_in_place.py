# problem: softmax_small
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def shifted(x_ptr, scratch_ptr, n, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * n + columns, mask=columns < n, other=-float("inf"))
    tl.store(scratch_ptr + tl.program_id(0) * n + columns, tl.exp(x - tl.max(x, axis=0)), mask=columns < n)


@triton.jit
def divided(scratch_ptr, n, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    at = scratch_ptr + tl.program_id(0) * n + columns
    e = tl.load(at, mask=columns < n, other=0.0)
    tl.store(at, e / tl.sum(e, axis=0), mask=columns < n)


class ModelNew(nn.Module):
    def forward(self, x):
        scratch = x.clone()
        block = triton.next_power_of_2(x.shape[-1])
        with torch.cuda.device(x.device):
            shifted[(x.shape[0],)](x, scratch, x.shape[-1], BLOCK=block, num_warps=4)
            divided[x.shape[0],](scratch, x.shape[-1], BLOCK=block)
        return scratch
