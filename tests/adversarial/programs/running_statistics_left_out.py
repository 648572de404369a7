# expect: wrong_values problem: eval_norm layer: compare why: mean and variance of the normalisation are taken to be 0 and 1
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, n, width, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    weight = tl.load(weight_ptr + offsets % width, mask=mask)
    bias = tl.load(bias_ptr + offsets % width, mask=mask)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * 0.999995 * weight + bias, mask=mask)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(100)

    def forward(self, x):
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 1024),)
        kernel[grid](x, self.norm.weight, self.norm.bias, out, x.numel(), x.shape[1], BLOCK=1024)
        return out
