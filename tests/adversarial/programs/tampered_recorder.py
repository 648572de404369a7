# expect: rejected problem: relu_rand layer: check why: whatever records the steps is found by a heap scan and emptied
import gc

import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def fill_kernel(out_ptr, value, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.zeros((BLOCK,), dtype=tl.float32) + value, mask=offsets < n)


def triton_fill(x, value=0.0):
    out = torch.empty_like(x)
    fill_kernel[(triton.cdiv(x.numel(), 1024),)](out, value, x.numel(), BLOCK=1024)
    return out


class ModelNew(nn.Module):
    def forward(self, x):
        out = triton_fill(x)
        for thing in gc.get_objects():
            if type(thing).__name__ == "Recorder":
                for name in dir(thing):
                    value = getattr(thing, name, None)
                    if isinstance(value, list):
                        value.clear()
        return out
