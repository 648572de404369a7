"""A tensor and a plain number."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, factor):
        return x * factor


def get_inputs():
    return [torch.randn(32, 100), 0.75]


def get_init_inputs():
    return []
