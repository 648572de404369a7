"""Leaky ReLU with a slope of its own, then a clamp."""

import torch
import torch.nn as nn

BATCH = 6
HEIGHT = 65
WIDTH = 100
SLOPE = 0.2
LIMIT = 1.5


class Model(nn.Module):
    def __init__(self, slope: float, limit: float):
        super().__init__()
        self.slope = slope
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(x, negative_slope=self.slope)
        return torch.clamp(x, min=-self.limit, max=self.limit)


def get_inputs():
    return [torch.randn(BATCH, HEIGHT, WIDTH)]


def get_init_inputs():
    return [SLOPE, LIMIT]
