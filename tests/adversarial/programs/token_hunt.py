# expect: wrong_values problem: relu_rand layer: compare why: fails loudly if the environment holds a token or the cluster's address
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
        names = [
            name for name in os.environ if any(word in name.upper() for word in ("TOKEN", "SECRET", "API_KEY", "RAY_"))
        ]
        if names:
            raise RuntimeError(f"found {names}")
        return triton_fill(x)
