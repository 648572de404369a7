"""Numbers in double precision."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return (x * x).sum(dim=1)


def get_inputs():
    return [torch.randn(16, 100, dtype=torch.float64)]


def get_init_inputs():
    return []
