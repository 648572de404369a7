# problem: gather_rows
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, index_ptr, out_ptr, stride, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    source = tl.load(index_ptr + row)
    tl.store(out_ptr + row * WIDTH + columns, tl.load(x_ptr + source * stride + columns))


class ModelNew(nn.Module):
    def forward(self, x, index):
        out = torch.empty(index.shape[0], x.shape[1], device=x.device, dtype=x.dtype)
        kernel[(index.shape[0],)](x, index, out, x.stride(0), WIDTH=x.shape[1])
        return out
