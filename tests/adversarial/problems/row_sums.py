"""One value a row, with a shape that a column vector would broadcast against."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x.sum(dim=1)


def get_inputs():
    return [torch.randn(32, 200)]


def get_init_inputs():
    return []
