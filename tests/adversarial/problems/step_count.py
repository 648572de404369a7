"""A buffer of integers is state."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        return x * self.steps.float()


def get_inputs():
    return [torch.randn(32, 100)]


def get_init_inputs():
    return []
