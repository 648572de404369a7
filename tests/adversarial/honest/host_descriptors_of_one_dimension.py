# problem: relu_rand
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def kernel(x_desc, y_desc, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK
    y_desc.store([at], tl.maximum(x_desc.load([at]), 0.0))


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        n = x.numel()
        described = [TensorDescriptor(t.view(-1), [n], [1], [512]) for t in (x, y)]
        kernel[(triton.cdiv(n, 512),)](*described, BLOCK=512)
        return y
