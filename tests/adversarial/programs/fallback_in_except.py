# expect: rejected problem: relu_rand layer: policy why: the kernel fails and torch computes in the except branch
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def broken_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.relu(tl.load(x_ptr + offsets)))


class ModelNew(nn.Module):
    def forward(self, x):
        try:
            out = torch.empty_like(x)
            broken_kernel[(1,)](x, out, x.numel(), BLOCK=1024)
            return out
        except Exception:
            return torch.relu(x)
