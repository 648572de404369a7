"""A transposed (not contiguous) input is scaled and added to a contiguous one."""

import torch
import torch.nn as nn

ROWS = 8192
COLUMNS = 4096
SCALE = 0.5


class Model(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * self.scale + y


def get_inputs():
    return [torch.randn(COLUMNS, ROWS).t(), torch.randn(ROWS, COLUMNS)]


def get_init_inputs():
    return [SCALE]
