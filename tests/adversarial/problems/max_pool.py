"""Windows over an image."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.max_pool2d(x, kernel_size=2)


def get_inputs():
    return [torch.randn(2, 3, 16, 16)]


def get_init_inputs():
    return []
