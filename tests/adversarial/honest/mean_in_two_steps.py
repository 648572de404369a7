# problem: mean_of_all
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def partial_sums(x_ptr, sums_ptr, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offsets = pid * BLOCK + tl.arange(0, BLOCK)
    tl.store(sums_ptr + pid, tl.sum(tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)))


@triton.jit
def finish(sums_ptr, out_ptr, count, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.sum(tl.load(sums_ptr + offsets, mask=offsets < count, other=0.0)) / n)


class ModelNew(nn.Module):
    def forward(self, x):
        count = triton.cdiv(x.numel(), 512)
        sums = torch.empty(count, device=x.device, dtype=torch.float32)
        out = torch.empty(1, device=x.device, dtype=torch.float32)
        partial_sums[(count,)](x, sums, x.numel(), BLOCK=512)
        finish[(1,)](sums, out, count, x.numel(), BLOCK=triton.next_power_of_2(count))
        return out[0]
