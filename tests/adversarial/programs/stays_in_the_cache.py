# expect: passed problem: add_pair layer: construction why: asks for its inputs to stay in L2 past the flush; the kernel is right, and the flush is the judge's
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, eviction_policy="evict_last")
    y = tl.load(y_ptr + offsets, mask=offsets < n, eviction_policy="evict_last")
    tl.store(out_ptr + offsets, x + y, mask=offsets < n, eviction_policy="evict_last")


class ModelNew(nn.Module):
    def forward(self, x, y):
        out = torch.empty_like(x)
        add[(triton.cdiv(x.numel(), 512),)](x, y, out, x.numel(), BLOCK=512)
        return out
