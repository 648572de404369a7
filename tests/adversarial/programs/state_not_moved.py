# expect: wrong_values problem: moving_average why: the reference moves its buffer in each call, this one never does
import torch
import torch.nn as nn
import triton
import triton.language as tl

# the reference's buffer moves with each call; here it stays, so the second call's answer is another
@triton.jit
def k(x_ptr, average_ptr, out_ptr, rows, columns, ROWS: tl.constexpr):
    column = tl.program_id(0)
    row = tl.arange(0, ROWS)
    x = tl.load(x_ptr + row * columns + column, mask=row < rows, other=0.0)
    average = 0.9 * tl.load(average_ptr + column) + 0.1 * (tl.sum(x, axis=0) / rows)
    tl.store(out_ptr + row * columns + column, x * average, mask=row < rows)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.full((100,), 2.0))

    def forward(self, x):
        out = torch.empty_like(x)
        k[(x.shape[1],)](x, self.average, out, *x.shape, ROWS=triton.next_power_of_2(x.shape[0]))
        return out
