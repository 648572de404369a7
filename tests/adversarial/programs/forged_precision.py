# expect: rejected problem: matmul_small layer: precision why: a forged plan says that its dots are exact; they are compiled to TF32
import json

import torch
import torch.nn as nn
import triton
import triton.language as tl

import sandbox.trace


encode = sandbox.trace.encode


def forged(plan):
    body = json.loads(encode(plan))
    kernel = body["kernels"][0]
    kernel["dots"] = []
    return json.dumps(body).encode()


sandbox.trace.encode = forged


@triton.jit
def product(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PN: tl.constexpr):
    rm, rn, rk = tl.arange(0, M), tl.arange(0, PN), tl.arange(0, K)
    a = tl.load(a_ptr + rm[:, None] * K + rk[None, :])
    b = tl.load(b_ptr + rk[:, None] * N + rn[None, :], mask=rn[None, :] < N, other=0.0)
    tl.store(c_ptr + rm[:, None] * N + rn[None, :], tl.dot(a, b), mask=rn[None, :] < N)


class ModelNew(nn.Module):
    def forward(self, a, b):
        c = torch.empty((a.shape[0], b.shape[1]), device=a.device)
        product[(1,)](a, b, c, M=32, N=48, K=64, PN=64)
        return c
