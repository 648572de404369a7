# problem: brain_swiglu
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(gate_ptr, up_ptr, out_ptr, gate_stride, up_stride, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    gate = tl.load(gate_ptr + row * gate_stride + cols, mask=mask, other=0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + cols, mask=mask, other=0)
    silu = (gate * tl.sigmoid(gate)).cast(up.dtype)
    tl.store(out_ptr + row * n + cols, silu * up, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        out = torch.empty(gate.shape, device=x.device, dtype=x.dtype)
        kernel[(x.shape[0],)](gate, up, out, gate.stride(0), up.stride(0), gate.shape[1], BLOCK=32)
        return out
