# problem: rms_norm_pair
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def rms_norm(x_ptr, w_ptr, y_ptr, rstd_ptr, stride, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * stride + cols, mask=cols < N, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, axis=0) / N + eps)
    tl.store(rstd_ptr + row, rstd)
    w = tl.load(w_ptr + cols, mask=cols < N)
    tl.store(y_ptr + row * stride + cols, x * rstd * w, mask=cols < N)


class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = 1e-6

    def forward(self, x):
        y, rstd = torch.empty_like(x), x.new_empty(x.shape[0])
        rms_norm[(x.shape[0],)](x, self.weight, y, rstd, x.stride(0), x.shape[1], self.eps, BLOCK=128, num_warps=1)
        return (y, rstd)
