# problem: group_norm_small
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def mean_var(x, mask, count):
    mean = tl.sum(tl.where(mask, x, 0.0)) / count
    d = tl.where(mask, x - mean, 0.0)
    return mean, tl.sum(d * d) / count


@triton.jit
def group_norm(x_ptr, w_ptr, b_ptr, y_ptr, HW, C, G, eps, CPG: tl.constexpr, BHW: tl.constexpr):
    group, batch, _ = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    ch = group * CPG + tl.arange(0, CPG)
    at = tl.arange(0, BHW)
    offs = (batch * C + ch)[:, None] * HW + at[None, :]
    mask = (at < HW)[None, :] & (ch < C)[:, None]
    x = tl.load(x_ptr + offs, mask=mask, other=0.0)
    mean, var = mean_var(x, mask, CPG * HW)
    w = tl.expand_dims(tl.load(w_ptr + ch), 1)
    b = tl.expand_dims(tl.load(b_ptr + ch), 1)
    tl.store(y_ptr + offs, (x - mean) / tl.sqrt_rn(var + eps) * w + b, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.gn = nn.GroupNorm(num_groups=groups, num_channels=channels)

    def forward(self, x):
        n, c, h, w = x.size()
        y = torch.empty_like(x)
        g = self.gn.num_groups
        group_norm[(g, n, 1)](x, self.gn.weight, self.gn.bias, y, h * w, c, g, self.gn.eps, CPG=c // g,
                              BHW=triton.next_power_of_2(h * w))
        return y
