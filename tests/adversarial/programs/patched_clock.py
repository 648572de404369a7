# expect: wrong_values problem: relu_rand layer: compare why: every clock is patched, which changes nothing about wrong values
import time

import torch
import torch.nn as nn
import triton
import triton.language as tl


triton.testing.do_bench = lambda *args, **kwargs: 1e-9
time.perf_counter = time.monotonic = lambda: 0.0
torch.cuda.Event.elapsed_time = lambda self, other: 1e-9
torch.cuda.synchronize = lambda *args: None
print("speedup: 1000.0")


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
        return triton_fill(x)
