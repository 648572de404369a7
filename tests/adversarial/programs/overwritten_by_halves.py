# expect: rejected problem: gather_rows layer: policy why: a kernel writes the output, then two operators write over all of it, each over a half
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


class ModelNew(nn.Module):
    def forward(self, x, index):
        answer = torch.index_select(x, 0, index)
        out = torch.empty_like(answer)
        kernel[(1,)](x, out, 64, BLOCK=64)
        out[:12].copy_(answer[:12])
        out[12:].copy_(answer[12:])
        return out
