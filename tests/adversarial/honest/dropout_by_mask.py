# problem: dropout_by_mask
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def _dropout(x_ptr, x_keep_ptr, output_ptr, n_elements, p, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    keep = tl.load(x_keep_ptr + offsets, mask=mask)
    tl.store(output_ptr + offsets, tl.where(keep, x / (1 - p), 0.0), mask=mask)


class ModelNew(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x, keep):
        if not x.is_contiguous():
            x = x.contiguous()
        out = torch.empty_like(x)
        _dropout[(triton.cdiv(x.numel(), 256),)](x, keep, out, x.numel(), self.p, BLOCK_SIZE=256)
        return out
