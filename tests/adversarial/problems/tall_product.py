"""A product of a transposed matrix and a slice of another."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(64, 32).t(), torch.randn(64, 48)[:, 5:37]]


def get_init_inputs():
    return []
