# expect: wrong_values problem: relu_rand layer: compare why: copies any tensor of the right shape that the garbage collector knows
import gc

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask), mask=mask)


def triton_copy(x):
    out = torch.empty_like(x)
    copy_kernel[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
    return out


class ModelNew(nn.Module):
    def forward(self, x):
        for thing in gc.get_objects():
            if issubclass(type(thing), torch.Tensor) and thing is not x and thing.shape == x.shape:
                return triton_copy(thing)
        return triton_copy(x)
