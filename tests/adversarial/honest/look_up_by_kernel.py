# problem: look_up
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(index_ptr, table_ptr, out_ptr, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    index = tl.load(index_ptr + row)
    tl.store(out_ptr + row * WIDTH + columns, tl.load(table_ptr + index * WIDTH + columns))


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Embedding(50, 32).weight

    def forward(self, index):
        out = torch.empty((*index.shape, 32), device=index.device)
        kernel[(index.numel(),)](index.contiguous().view(-1), self.weight, out, WIDTH=32)
        return out
