"""Running products of numbers near one, from the end."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return torch.cumprod(x.flip(1), dim=1).flip(1)


def get_inputs():
    return [1.0 + 0.1 * torch.rand(6, 32)]


def get_init_inputs():
    return []
