# problem: causal_scores
import torch
import torch.nn as nn
import triton
import triton.language as tl


NEGATIVE = tl.constexpr(float("-inf"))


@triton.jit
def kernel(x_ptr, out_ptr, T: tl.constexpr):
    row, batch = tl.program_id(0), tl.program_id(1)
    columns = tl.arange(0, T)
    at = batch * T * T + row * T + columns
    tl.store(out_ptr + at, tl.where(columns <= row, tl.load(x_ptr + at), NEGATIVE))


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        kernel[(x.shape[1], x.shape[0])](x, out, T=x.shape[1])
        return out
