"""Long indices pick rows."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, index):
        return torch.index_select(x, 0, index)


def get_inputs():
    return [torch.randn(40, 64), torch.randint(0, 40, (25,))]


def get_init_inputs():
    return []
