# expect: wrong_values problem: relu_rand layer: compare gpu: wrong_values|passed why: the configurations after the first leave half of the work out, and one of them may be chosen
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.autotune(
    configs=[triton.Config({"SHARE": share}, num_warps=4) for share in (1, 2)],
    key=["n"],
)
@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr, SHARE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n // SHARE
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
