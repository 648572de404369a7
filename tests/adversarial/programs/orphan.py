# expect: wrong_values|trace_error problem: relu_rand layer: compare|isolation limits: wall=15 why: a grandchild in a session of its own keeps every descriptor open for twenty seconds
import os
import time

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
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(20.0)
            os._exit(0)
        return triton_fill(x)
