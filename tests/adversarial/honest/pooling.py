# problem: max_pool
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, out_ptr, H, W, OH, OW, n, KERNEL: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    ow, oh, plane = offsets % OW, (offsets // OW) % OH, offsets // (OW * OH)
    largest = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for i in range(KERNEL):
        for j in tl.static_range(KERNEL):
            at = plane * H * W + (oh * KERNEL + i) * W + ow * KERNEL + j
            largest = tl.maximum(largest, tl.load(x_ptr + at, mask=mask, other=float("-inf")))
    tl.store(out_ptr + offsets, largest, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        out = torch.empty((b, c, h // 2, w // 2), device=x.device, dtype=x.dtype)
        kernel[(triton.cdiv(out.numel(), 128),)](x, out, h, w, h // 2, w // 2, out.numel(), KERNEL=2, BLOCK=128)
        return out
