"""Products of several pairs, each of its own size."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, a0, b0, a1, b1, a2, b2):
        return [a0 @ b0, a1 @ b1, a2 @ b2]


def get_inputs():
    sizes = [(16, 24, 32), (40, 16, 20), (8, 33, 16)]
    return [t for m, k, n in sizes for t in (torch.randn(m, k), torch.randn(k, n))]


def get_init_inputs():
    return []
