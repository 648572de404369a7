"""Infinities belong to the answer: log of zero is minus infinity."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.log(torch.relu(x))


def get_inputs():
    return [torch.randn(32, 100)]


def get_init_inputs():
    return []
