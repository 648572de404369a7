# problem: half_row_products
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def times(a, b):
    return a * b


@triton.jit
def kernel(x_ptr, prod_ptr, max_ptr, place_ptr, N: tl.constexpr):
    row = tl.program_id(0)
    x = tl.load(x_ptr + row * N + tl.arange(0, N))
    tl.store(prod_ptr + row, tl.reduce(x.to(tl.float32), 0, times))
    largest, place = tl.max(x, 0, return_indices=True)
    tl.store(max_ptr + row, largest)
    tl.store(place_ptr + row, place)


class ModelNew(nn.Module):
    def forward(self, x):
        rows = x.shape[0]
        prod = torch.empty(rows, device=x.device)
        largest, place = x.new_empty(rows), torch.empty(rows, device=x.device, dtype=torch.int64)
        kernel[(rows,)](x, prod, largest, place, N=x.shape[1])
        return prod, largest, place
