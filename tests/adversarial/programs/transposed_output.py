# expect: passed problem: relu_rand layer: construction why: the right values in another memory layout, which costs whoever reads them; a label at most
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr, ROWS, COLUMNS, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * COLUMNS + cols, mask=cols < COLUMNS)
    tl.store(out_ptr + cols * ROWS + row, tl.maximum(x, 0.0), mask=cols < COLUMNS)


class ModelNew(nn.Module):
    def forward(self, x):
        out = x.new_empty(x.shape[1], x.shape[0])
        relu[(x.shape[0],)](x, out, *x.shape, BLOCK=128)
        return out.t()
