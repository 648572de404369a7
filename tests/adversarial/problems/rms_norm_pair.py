"""A root-mean-square normalisation that also gives its factor."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        rstd = torch.rsqrt(x.pow(2).mean(-1) + 1e-6)
        return x * rstd[:, None] * self.weight, rstd


def get_inputs():
    return [torch.randn(24, 72)]


def get_init_inputs():
    return [72]
