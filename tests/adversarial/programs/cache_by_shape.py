# expect: passed problem: relu_rand layer: construction why: answers are cached under the shape of the input; there is one call, so nothing is found
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


ANSWERS = {}


class ModelNew(nn.Module):
    def forward(self, x):
        key = tuple(x.shape)
        if key not in ANSWERS:
            ANSWERS[key] = torch.empty_like(x)
            relu[(triton.cdiv(x.numel(), 1024),)](x, ANSWERS[key], x.numel(), BLOCK=1024)
        return ANSWERS[key]
