# expect: unverified problem: relu_rand layer: unseen gpu: illegal_access|launch_error why: inline assembly that ends the context, for whoever is next
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    seen = tl.inline_asm_elementwise("mov.f32 $0, $1; trap;", "=f,f", [x], dtype=tl.float32, is_pure=False, pack=1)
    tl.store(out_ptr + offsets, tl.maximum(seen, 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
