"""A linear layer, then a sigmoid and a scale."""

import torch
import torch.nn as nn

BATCH = 4096
INPUTS = 2048
OUTPUTS = 4096
SCALE = 2.0


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int, scale: float):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.linear(x)) * self.scale


def get_inputs():
    return [torch.randn(BATCH, INPUTS)]


def get_init_inputs():
    return [INPUTS, OUTPUTS, SCALE]
