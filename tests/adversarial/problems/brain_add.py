"""An elementwise chain in bfloat16."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, y):
        return torch.sigmoid(x) * y


def get_inputs():
    return [torch.randn(32, 100).bfloat16(), torch.randn(32, 100).bfloat16()]


def get_init_inputs():
    return []
