# expect: rejected problem: relu_rand layer: check why: a forged plan has a parameter's type with Python in it, where Triton's front end would run a layout
import json

import torch
import torch.nn as nn
import triton
import triton.language as tl

import sandbox.trace


encode = sandbox.trace.encode


def forged(plan):
    body = json.loads(encode(plan))
    body["kernels"][0]["params"][0][1] = "*tensordesc<fp32[16],exit(0)>"
    return json.dumps(body).encode()


sandbox.trace.encode = forged


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
