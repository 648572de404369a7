# problem: linear_recurrence
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def combine(a_left, b_left, a_right, b_right):
    return a_left * a_right, b_left * a_right + b_right


@triton.jit
def recurrence(gate_ptr, value_ptr, out_ptr, T: tl.constexpr, D: tl.constexpr):
    at = tl.program_id(0) * T * D + tl.arange(0, T)[:, None] * D + tl.arange(0, D)[None, :]
    gate = tl.sigmoid(tl.load(gate_ptr + at))
    _, states = tl.associative_scan((gate, tl.load(value_ptr + at)), 0, combine)
    tl.store(out_ptr + at, states)


class ModelNew(nn.Module):
    def forward(self, gate, value):
        batch, time, width = value.shape
        out = torch.empty_like(value)
        recurrence[(batch,)](gate, value, out, T=time, D=width)
        return out
