"""An image in channels-last order, scaled by channel."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x):
        return torch.relu(x) * self.scale.view(1, -1, 1, 1)


def get_inputs():
    return [torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)]


def get_init_inputs():
    return []
