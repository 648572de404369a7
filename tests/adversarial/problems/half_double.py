"""Twice the input, in half precision."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x * 2


def get_inputs():
    return [torch.randn(32, 100).half()]


def get_init_inputs():
    return []
