# problem: linear_small
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def kernel(bias_ptr, x_desc, scale, w_desc, N, K, out_ptr, out_stride, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    at_m, at_n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        acc = tl.dot(x_desc.load([at_m, start]), w_desc.load([at_n, start]).T, acc, input_precision="ieee")
    rows, cols = at_m + tl.arange(0, BM), at_n + tl.arange(0, BN)
    acc = acc * scale + tl.load(bias_ptr + cols, mask=cols < N, other=0.0)[None, :]
    mask = (rows < x_desc.shape[0])[:, None] & (cols < N)[None, :]
    tl.store(out_ptr + rows[:, None] * out_stride + cols[None, :], acc, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x):
        weight = self.linear.weight
        (M, K), N = x.shape, weight.shape[0]
        out = torch.empty((M, N), device=x.device, dtype=x.dtype)
        x_desc = TensorDescriptor.from_tensor(x, [16, 32])
        w_desc = TensorDescriptor.from_tensor(weight, [32, 32])
        kernel[(triton.cdiv(M, 16), triton.cdiv(N, 32))](
            self.linear.bias, x_desc, 1.0, w_desc, N, K, out, out.stride(0), BM=16, BN=32, BK=32
        )
        return out
