# expect: rejected problem: relu_rand layer: check why: a forged plan has a descriptor that reaches beyond its tensor, which the candidate's own process was kept from noticing
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

import sandbox.triton_record

sandbox.triton_record.fault_of = lambda *args, **kwargs: None


@triton.jit
def kernel(x_desc, y_desc, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK
    y_desc.store([at], tl.maximum(x_desc.load([at]), 0.0))


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        n = x.numel() + (1 << 20)
        described = [TensorDescriptor(t.view(-1), [n], [1], [256]) for t in (x, y)]
        kernel[(triton.cdiv(n, 256),)](*described, BLOCK=256)
        return y
