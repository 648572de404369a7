# problem: transposed_add
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, out_ptr, scale, rows, columns, BR: tl.constexpr, BC: tl.constexpr):
    r = tl.program_id(0) * BR + tl.arange(0, BR)[:, None]
    c = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    mask = (r < rows) & (c < columns)
    x = tl.load(x_ptr + c * rows + r, mask=mask)
    y = tl.load(y_ptr + r * columns + c, mask=mask)
    tl.store(out_ptr + r * columns + c, tl.fma(x, scale, y), mask=mask)


class ModelNew(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = float(scale)

    def forward(self, x, y):
        turned = x.transpose(0, 1)
        assert turned.is_contiguous()
        out = torch.empty(y.numel(), device=y.device).view(y.shape)
        kernel[(triton.cdiv(y.shape[0], 32), triton.cdiv(y.shape[1], 32))](
            turned, y, out, self.scale, y.shape[0], y.shape[1], BR=32, BC=32
        )
        return out
