"""A bias that starts as zeros, so that leaving it out shows only with other weights."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return torch.sigmoid(x + self.bias)


def get_inputs():
    return [torch.randn(32, 100)]


def get_init_inputs():
    return [100]
