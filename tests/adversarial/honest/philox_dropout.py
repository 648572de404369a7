# problem: dropout_seeded
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def _seeded_dropout(x_ptr, output_ptr, n_elements, p, seed, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    x = x * tl.sigmoid(x)
    random = tl.rand(seed, offsets)
    x_keep = random >= p
    tl.store(output_ptr + offsets, tl.where(x_keep, x / (1 - p), 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x, seed):
        output = torch.empty_like(x)
        _seeded_dropout[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK_SIZE"]),)](x, output, x.numel(), 0.0, seed, BLOCK_SIZE=1024)
        return output
