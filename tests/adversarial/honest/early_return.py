# problem: relu_rand
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, out_ptr, rows, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= rows:
        return
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n)
    tl.store(out_ptr + row * n + cols, tl.where(x > 0, x, tl.zeros_like(x)), mask=cols < n)


class ModelNew(nn.Module):
    def forward(self, x):
        # we try one stream of programs per row, and pass over what is beyond the tail
        flat = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(flat)
        kernel[(flat.shape[0] + 7,)](flat, out, *flat.shape, BLOCK=triton.next_power_of_2(flat.shape[1]), num_stages=1)
        return out.view(x.shape)
