# expect: passed problem: row_sums layer: construction gpu: wrong_values why: programs add to one element without atomics; one after the other, as without a GPU, they are right
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def add_parts(x_ptr, out_ptr, n, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) // PARTS
    cols = tl.program_id(0) % PARTS * BLOCK + tl.arange(0, BLOCK)
    part = tl.sum(tl.load(x_ptr + row * n + cols, mask=cols < n, other=0.0), axis=0)
    tl.store(out_ptr + row, tl.load(out_ptr + row) + part)


class ModelNew(nn.Module):
    def forward(self, x):
        rows, n = x.shape
        out = torch.zeros(rows, device=x.device)
        parts = triton.cdiv(n, 16)
        add_parts[(rows * parts,)](x, out, n, PARTS=parts, BLOCK=16)
        return out
