# expect: rejected problem: relu_rand layer: policy why: torch computes; the kernel gets the output but has no store in it
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def touch_kernel(out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(out_ptr + offsets, mask=offsets < n)
    value += 1.0


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.relu(x)
        touch_kernel[(triton.cdiv(out.numel(), 1024),)](out, out.numel(), BLOCK=1024)
        return out
