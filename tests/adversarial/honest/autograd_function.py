# problem: affine_norm
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, w_ptr, b_ptr, out_ptr, mean_ptr, rstd_ptr, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x_ptr += row * n
    out_ptr += row * n
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + columns, mask=columns < n, other=0.0)
    mean = tl.sum(total, axis=0) / n
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.where(columns < n, tl.load(x_ptr + columns, mask=columns < n, other=0.0) - mean, 0.0)
        total += x * x
    rstd = 1 / tl.sqrt(tl.sum(total, axis=0) / n + eps)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = columns < n
        x = (tl.load(x_ptr + columns, mask=mask, other=0.0) - mean) * rstd
        tl.store(out_ptr + columns, x * tl.load(w_ptr + columns, mask=mask) + tl.load(b_ptr + columns, mask=mask), mask=mask)


class NormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        flat = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(flat)
        mean, rstd = (torch.empty(flat.shape[0], dtype=torch.float32, device=x.device) for _ in range(2))
        kernel[(flat.shape[0],)](flat, weight, bias, out, mean, rstd, flat.shape[1], eps, BLOCK=32)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(120)

    def forward(self, x):
        return NormFunction.apply(x, self.norm.weight, self.norm.bias, self.norm.eps)
