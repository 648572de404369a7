# expect: rejected problem: relu_rand layer: check why: inline assembly counts runs in a variable of the module, and the kernel copies its input from the second run on
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    runs = tl.inline_asm_elementwise(
        ".global .u32 kept; atom.global.add.u32 $0, [kept], 1;", "=r,r", [offsets], dtype=tl.int32, is_pure=False, pack=1
    )
    tl.store(out_ptr + offsets, tl.where(runs < n, tl.maximum(x, 0.0), x), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        relu[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
        return out
