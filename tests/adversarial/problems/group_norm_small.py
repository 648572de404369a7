"""A group normalisation with weights."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.gn = nn.GroupNorm(num_groups=groups, num_channels=channels)

    def forward(self, x):
        return self.gn(x)


def get_inputs():
    return [torch.randn(2, 8, 5, 5)]


def get_init_inputs():
    return [4, 8]
