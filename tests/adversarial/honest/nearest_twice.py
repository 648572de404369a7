# problem: nearest_twice
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, H, W, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    ow = offsets % (2 * W)
    oh = offsets // (2 * W) % (2 * H)
    plane = offsets // (4 * H * W)
    tl.store(y_ptr + offsets, tl.load(x_ptr + plane * H * W + (oh >> 1) * W + (ow >> 1), mask=mask), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x: torch.Tensor, **kwargs) -> torch.Tensor:
        *batch, h, w = x.shape
        y = torch.empty(*batch, 2 * h, 2 * w, device=x.device, dtype=x.dtype)
        kernel[(triton.cdiv(y.numel(), 128),)](x, y, h, w, y.numel(), BLOCK=128)
        return y
