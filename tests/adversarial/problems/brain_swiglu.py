"""A gated product in bfloat16."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        return nn.functional.silu(gate) * up


def get_inputs():
    return [torch.randn(15, 64).bfloat16()]


def get_init_inputs():
    return []
