# expect: passed problem: linear_small layer: construction why: the weights carry the reference's names, and are created in another order
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def linear_kernel(x_ptr, w_ptr, b_ptr, out_ptr, N, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    n = tl.arange(0, BLOCK)
    k = tl.arange(0, K)
    x = tl.load(x_ptr + row * K + k)
    w = tl.load(w_ptr + n[:, None] * K + k[None, :], mask=(n < N)[:, None], other=0.0)
    b = tl.load(b_ptr + n, mask=n < N)
    tl.store(out_ptr + row * N + n, tl.sum(w * x[None, :], axis=1) + b, mask=n < N)


class ModelNew(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        torch.rand(17)
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x):
        out = torch.empty((x.shape[0], self.linear.weight.shape[0]), device=x.device, dtype=x.dtype)
        linear_kernel[(x.shape[0],)](
            x, self.linear.weight, self.linear.bias, out, self.linear.weight.shape[0], K=64, BLOCK=64
        )
        return out
