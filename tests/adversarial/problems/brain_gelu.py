"""A smooth function in bfloat16, whose steps are coarse."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.nn.functional.gelu(x)


def get_inputs():
    return [torch.randn(32, 100).bfloat16()]


def get_init_inputs():
    return []
