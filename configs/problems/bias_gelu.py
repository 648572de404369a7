"""A bias over the last dimension, then GELU in its tanh form."""

import torch
import torch.nn as nn

TOKENS = 60
HIDDEN = 768


class Model(nn.Module):
    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x + bias, approximate="tanh")


def get_inputs():
    return [torch.randn(TOKENS, HIDDEN), torch.randn(HIDDEN)]


def get_init_inputs():
    return []
