# problem: softmax_small
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def kernel(x_desc, y_desc, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS
    x = x_desc.load([row, 0])
    x = tl.where(x == x, x, -float("inf"))
    numerator = tl.exp(x - tl.max(x, axis=1)[:, None])
    y_desc.store([row, 0], numerator / tl.sum(numerator, axis=1)[:, None])


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        x_desc = TensorDescriptor.from_tensor(x, [4, 512], padding="nan")
        y_desc = TensorDescriptor.from_tensor(y, [4, 512])
        kernel[(triton.cdiv(x.shape[0], 4),)](x_desc, y_desc, ROWS=4)
        return y
