# problem: relu_rand
import torch
import torch.nn as nn
import triton
import triton.language as tl
from torch.library import custom_op, triton_op, wrap_triton


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


@triton_op("own::first", mutates_args={})
def first(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    wrap_triton(relu)[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
    return out


@custom_op("own::second", mutates_args={"out"})
def second(x: torch.Tensor, out: torch.Tensor) -> None:
    relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        second(first(x), out)
        return out
