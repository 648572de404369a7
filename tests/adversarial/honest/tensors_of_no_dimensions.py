# problem: scalar_tensors
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, scale_ptr, out_ptr, largest_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0) * tl.load(scale_ptr)
    tl.store(out_ptr + offsets, x, mask=mask)
    tl.store(largest_ptr, tl.max(tl.where(mask, x, float("-inf"))))


class ModelNew(nn.Module):
    def forward(self, x, scale):
        out, largest = torch.empty_like(x), torch.empty_like(scale)
        kernel[1,](x, scale, out, largest, x.shape[0], BLOCK=triton.next_power_of_2(x.shape[0]))
        return out, largest
