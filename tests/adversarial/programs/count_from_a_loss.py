# expect: rejected problem: relu_rand layer: check why: the total weight of a loss that is not reduced is never written, so in it a kernel counts its runs
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, count_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, tl.maximum(x, 0.0), mask=offsets < n)
    tl.atomic_add(count_ptr, 1.0)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        scores = torch.zeros((1, 2, 1, 1), device=x.device)
        target = torch.zeros((1, 1, 1), device=x.device, dtype=torch.int64)
        _, count = torch.ops.aten.nll_loss2d_forward(scores, target, None, 0, -100)
        relu[(triton.cdiv(x.numel(), 1024),)](x, count, out, x.numel(), BLOCK=1024)
        return out
