"""An input whose rows share one memory, of which they are every other element."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, y):
        return x * 2.0 + y


def get_inputs():
    return [torch.randn(1, 200)[:, ::2].expand(32, 100), torch.randn(32, 100)]


def get_init_inputs():
    return []
