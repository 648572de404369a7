# problem: three_projections
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def project(x_ptr, w_ptr, y_ptr, M, WIDTH: tl.constexpr, BM: tl.constexpr):
    rm, rk = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, WIDTH)
    which = tl.program_id(1)
    x = tl.load(x_ptr + rm[:, None] * WIDTH + rk[None, :], mask=rm[:, None] < M, other=0.0)
    w = tl.load(w_ptr + which * WIDTH * WIDTH + rk[None, :] * WIDTH + rk[:, None])
    tl.store(y_ptr + which * M * WIDTH + rm[:, None] * WIDTH + rk[None, :], tl.dot(x, w, input_precision="ieee"), mask=rm[:, None] < M)


class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.qkv = torch.cat([self.q.weight, self.k.weight, self.v.weight], dim=0)

    def forward(self, x):
        y = torch.empty((3, *x.shape), device=x.device, dtype=x.dtype)
        project[(triton.cdiv(x.shape[0], 16), 3)](x, self.qkv, y, x.shape[0], WIDTH=x.shape[1], BM=16)
        return tuple(y.unbind(0))
