"""Two layers with a smooth gate between them."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.up = nn.Linear(n_in, hidden)
        self.down = nn.Linear(hidden, n_out, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.up(x)))


def get_inputs():
    return [torch.randn(20, 32)]


def get_init_inputs():
    return [32, 48, 16]
