"""Infinities and numbers that are none belong to the answer."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return torch.log(x), torch.sqrt(x), torch.reciprocal(torch.relu(x))


def get_inputs():
    return [torch.randn(13, 50)]


def get_init_inputs():
    return []
