"""A buffer that starts as ones."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(100))

    def forward(self, x):
        return torch.sigmoid(x * self.scale)


def get_inputs():
    return [torch.randn(32, 100)]


def get_init_inputs():
    return []
