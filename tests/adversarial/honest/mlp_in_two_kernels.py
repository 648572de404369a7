# problem: small_mlp
import functools

import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def linear(x_ptr, w_ptr, b_ptr, y_ptr, M, N, K, HAS_BIAS: tl.constexpr, SILU: tl.constexpr,
           BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm, rn = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        rk = start + tl.arange(0, BK)
        x = tl.load(x_ptr + rm[:, None] * K + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0.0)
        w = tl.load(w_ptr + rn[None, :] * K + rk[:, None], mask=(rn[None, :] < N) & (rk[:, None] < K), other=0.0)
        acc = tl.dot(x, w, acc, input_precision="ieee")
    if HAS_BIAS:
        acc += tl.load(b_ptr + rn, mask=rn < N, other=0.0)[None, :]
    if SILU:
        acc = acc * tl.sigmoid(acc)
    tl.store(y_ptr + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@functools.lru_cache(maxsize=None)
def launch_config(m, n):
    return {"BM": 16, "BN": 16 if n < 64 else 32, "BK": 16, "num_warps": 2 if m < 64 else 4}


def apply(x, layer: nn.Linear, silu: bool = False):
    y = x.new_empty((x.shape[0], layer.out_features))
    config = launch_config(*y.shape)
    grid = (triton.cdiv(y.shape[0], config["BM"]), triton.cdiv(y.shape[1], config["BN"]))
    linear[grid](x, layer.weight, layer.bias, y, *y.shape, layer.in_features, HAS_BIAS=layer.bias is not None, SILU=silu, **config)
    return y


class ModelNew(nn.Module):
    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.up = nn.Linear(n_in, hidden)
        self.down = nn.Linear(hidden, n_out, bias=False)

    def forward(self, x):
        return apply(apply(x, self.up, silu=True), self.down)
