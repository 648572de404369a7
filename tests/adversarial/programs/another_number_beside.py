# expect: wrong_values problem: nested_outputs layer: check why: the number that the reference returns beside its tensors is another
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, scaled_ptr, low_ptr, high_ptr, span_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask)
    tl.store(scaled_ptr + row * n + cols, x * 0.5, mask=mask)
    low = tl.min(tl.where(mask, x, float("inf")), axis=0)
    high = tl.max(tl.where(mask, x, float("-inf")), axis=0)
    tl.store(low_ptr + row, low)
    tl.store(high_ptr + row, high)
    tl.store(span_ptr + row, high - low)


class ModelNew(nn.Module):
    def forward(self, x):
        scaled = torch.empty_like(x)
        low, high, span = (x.new_empty(x.shape[0]) for _ in range(3))
        kernel[(x.shape[0],)](x, scaled, low, high, span, x.shape[1], BLOCK=64)
        return {"scaled": scaled, "bounds": (low, high), "more": {"span": span, "rows": 0, "factor": 0.5, "state": None}}
