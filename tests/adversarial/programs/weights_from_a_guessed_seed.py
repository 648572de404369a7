# expect: passed|wrong_values|untraceable problem: linear_small layer: trace|construction|compare why: the constructor sets a seed of its own: in a plan the judge's seed draws the numbers, so nothing is gained
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
        torch.manual_seed(0)
        layer = nn.Linear(inputs, outputs)
        self.constants = [layer.weight.detach().clone(), layer.bias.detach().clone()]

    def forward(self, x):
        out = torch.empty((x.shape[0], self.constants[0].shape[0]), device=x.device, dtype=x.dtype)
        linear_kernel[(x.shape[0],)](
            x, self.constants[0], self.constants[1], out, self.constants[0].shape[0], K=64, BLOCK=64
        )
        return out
