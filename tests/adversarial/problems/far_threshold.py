"""A write through a mask whose threshold lies far beyond the given inputs and beyond the common scales of stress."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        y = x * 2
        y[x > 150.0] = 0.0
        return y


def get_inputs():
    return [torch.randn(64, 40)]


def get_init_inputs():
    return []
