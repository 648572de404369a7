"""Values over many orders of magnitude."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.exp(6 * x)


def get_inputs():
    return [torch.randn(32, 100)]


def get_init_inputs():
    return []
