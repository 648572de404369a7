# problem: cumulative_sum
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def step(src_ptr, dst_ptr, n, shift, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    here = tl.load(src_ptr + row * n + cols, mask=cols < n)
    there = tl.load(src_ptr + row * n + cols - shift, mask=(cols < n) & (cols >= shift), other=0.0)
    tl.store(dst_ptr + row * n + cols, here + there, mask=cols < n)


class ModelNew(nn.Module):
    def forward(self, x):
        rows, n = x.shape
        ping, pong = torch.empty_like(x), torch.empty_like(x)
        source, shift = x, 1
        while shift < n:
            step[(rows,)](source, ping, n, shift, BLOCK=triton.next_power_of_2(n))
            source, ping, pong, shift = ping, pong, ping, shift * 2
        return source
