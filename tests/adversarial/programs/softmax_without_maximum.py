# expect: wrong_values problem: softmax_small layer: compare why: exponentials without subtracting the maximum first, which overflow on large inputs
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    e = tl.exp(tl.load(x_ptr + tl.program_id(0) * n + columns, mask=mask, other=-float("inf")))
    tl.store(out_ptr + tl.program_id(0) * n + columns, e / tl.sum(e, axis=0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return out
