"""A batch normalisation in training mode, which changes its own running statistics."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(50)

    def forward(self, x):
        return self.norm(x)


def get_inputs():
    return [torch.randn(32, 50)]


def get_init_inputs():
    return []
