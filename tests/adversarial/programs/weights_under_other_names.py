# expect: unverified problem: affine_norm layer: unseen why: an honest answer whose weights have other names; whether it applies them cannot be seen
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, gamma_ptr, beta_ptr, out_ptr, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    x = tl.load(x_ptr + row * n + columns, mask=mask, other=0.0)
    mean = tl.sum(x, axis=0) / n
    centred = tl.where(mask, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / n + eps)
    gamma, beta = tl.load(gamma_ptr + columns, mask=mask), tl.load(beta_ptr + columns, mask=mask)
    tl.store(out_ptr + row * n + columns, centred * scale * gamma + beta, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, eps=1e-5):
        super().__init__()
        self.gamma, self.beta, self.eps = nn.Parameter(torch.ones(120)), nn.Parameter(torch.zeros(120)), eps

    def forward(self, x):
        out = torch.empty_like(x)
        kernel[(x.shape[0],)](x, self.gamma, self.beta, out, x.shape[1], self.eps, BLOCK=128)
        return out
