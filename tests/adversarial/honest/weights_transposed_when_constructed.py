# problem: small_mlp
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def fused(x_ptr, up_ptr, bias_ptr, down_ptr, y_ptr, M, IN: tl.constexpr, HIDDEN: tl.constexpr, OUT: tl.constexpr, BM: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    ri, ro = tl.arange(0, IN), tl.arange(0, OUT)
    x = tl.load(x_ptr + rm[:, None] * IN + ri[None, :], mask=rm[:, None] < M, other=0.0)
    acc = tl.zeros((BM, OUT), tl.float32)
    for start in tl.static_range(0, HIDDEN, 16):
        rh = start + tl.arange(0, 16)
        h = tl.dot(x, tl.load(up_ptr + ri[:, None] * HIDDEN + rh[None, :]), input_precision="ieee") + tl.load(bias_ptr + rh)[None, :]
        h = h / (1 + tl.exp(-h))
        acc += tl.dot(h, tl.load(down_ptr + rh[:, None] * OUT + ro[None, :]), input_precision="ieee")
    tl.store(y_ptr + rm[:, None] * OUT + ro[None, :], acc, mask=rm[:, None] < M)


class ModelNew(nn.Module):
    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.up = nn.Linear(n_in, hidden)
        self.down = nn.Linear(hidden, n_out, bias=False)
        self.up_t = self.up.weight.detach().t().contiguous()
        self.register_buffer("down_t", self.down.weight.detach().t().contiguous(), persistent=False)
        self.sizes = dict(IN=n_in, HIDDEN=hidden, OUT=n_out)

    def forward(self, x):
        y = torch.empty(x.shape[0], self.sizes["OUT"], device=x.device)
        fused[(triton.cdiv(x.shape[0], 16),)](x, self.up_t, self.up.bias, self.down_t, y, x.shape[0], **self.sizes, BM=16)
        return y
