# problem: log_sum_exp
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def merge(m_a, s_a, m_b, s_b):
    m = tl.maximum(m_a, m_b)
    scale_a = tl.where(m_a == m, 1.0, tl.exp(m_a - m))
    scale_b = tl.where(m_b == m, 1.0, tl.exp(m_b - m))
    return m, s_a * scale_a + s_b * scale_b


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=float("-inf"))
    m, s = tl.reduce((x, tl.where(cols < n, 1.0, 0.0)), 0, merge)
    tl.store(out_ptr + row, m + tl.log(s))


class ModelNew(nn.Module):
    def forward(self, x):
        out = x.new_empty(x.shape[0])
        kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=128)
        return out
