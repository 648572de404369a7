# problem: average_pool
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, L, OL, SIZE: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.int32)
    for i in tl.static_range(SIZE):
        source = at * STRIDE - PAD + i
        inside = (source >= 0) & (source < L)
        total += tl.load(x_ptr + row * L + source, mask=inside & (at < OL), other=0.0)
        count += inside.to(tl.int32)
    tl.store(y_ptr + row * OL + at, total / count, mask=at < OL)


class ModelNew(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        b, c, length = x.shape
        out_length = (length + 2 - self.size) // 2 + 1
        y = torch.empty(b, c, out_length, device=x.device)
        kernel[(b * c,)](x, y, length, out_length, SIZE=self.size, STRIDE=2, PAD=1, BLOCK=triton.next_power_of_2(out_length))
        return y
