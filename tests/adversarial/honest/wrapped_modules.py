# problem: linear_small
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def add_bias(value, bias, USE: tl.constexpr = True):
    return value + bias if USE else value


@triton.jit
def kernel(x_ptr, w_ptr, b_ptr, out_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           HAS_BIAS: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        rk = start + tl.arange(0, BK)
        x = tl.load(x_ptr + rm[:, None] * K + rk[None, :], mask=(rm < M)[:, None] & (rk < K)[None, :], other=0.0)
        w = tl.load(w_ptr + rn[None, :] * K + rk[:, None], mask=(rn < N)[None, :] & (rk < K)[:, None], other=0.0)
        acc = tl.dot(x, w, acc, input_precision="ieee")
    if HAS_BIAS:
        acc = add_bias(acc, tl.load(b_ptr + rn, mask=rn < N)[None, :])
    tl.store(out_ptr + rm[:, None] * N + rn[None, :], acc, mask=(rm < M)[:, None] & (rn < N)[None, :])


def triton_linear(x, weight, bias=None):
    out = torch.empty(x.shape[0], weight.shape[0], device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(out.shape[0], 16), triton.cdiv(out.shape[1], 16))
    kernel[grid](x, weight, bias, out, *out.shape, x.shape[1], BM=16, BN=16, BK=32, HAS_BIAS=bias is not None)
    return out


class TritonLinear(nn.Linear):
    def forward(self, x):
        return triton_linear(x, self.weight, self.bias)


class ModelNew(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layers = nn.Sequential(TritonLinear(inputs, outputs), nn.Identity())

    def forward(self, x):
        return self.layers(x)
