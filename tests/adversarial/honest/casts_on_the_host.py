# problem: host_casts
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    sums = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=float("-inf"))
        sums += tl.exp(x.to(tl.float32))
    tl.store(out_ptr + row, tl.sum(sums, axis=0) / n)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty(x.size(0), dtype=torch.float32, device=x.device)
        kernel[(x.size(0),)](x, out, x.size(1), BLOCK=256)
        return out.to(torch.float16)
