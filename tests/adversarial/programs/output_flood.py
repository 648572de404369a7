# expect: trace_error problem: relu_rand layer: isolation why: half a gigabyte on each of stdout and stderr
import os

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
        block = b"PASS " * 200_000
        for _ in range(512):
            os.write(1, block)
            os.write(2, block)
        return triton_fill(x)
