# expect: wrong_values problem: every_other_column layer: guard why: leaves its answer between the elements of a strided input, for its next run to find
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def tanh(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y = libdevice.tanh(tl.load(x_ptr + 2 * offsets, mask=offsets < n))
    tl.store(out_ptr + offsets, y, mask=offsets < n)
    tl.store(x_ptr + 2 * offsets + 1, y, mask=offsets < n - 1)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty(x.shape, device=x.device)
        tanh[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
