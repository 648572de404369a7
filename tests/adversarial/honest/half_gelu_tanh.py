# problem: half_gelu_tanh
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.language.extra import libdevice

SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + libdevice.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, gelu(x.to(tl.float32)), mask=offsets < n)


class ModelNew(nn.Module):
    def forward(self, x):
        stream = torch.cuda.current_stream(x.device)
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), BLOCK=256)
        return out
