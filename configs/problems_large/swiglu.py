"""SwiGLU: one half of the last dimension gates the other, so the kernel reads two strided halves."""

import torch
import torch.nn as nn

TOKENS = 8192
HIDDEN = 2816


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = x.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * value


def get_inputs():
    return [torch.randn(TOKENS, 2 * HIDDEN)]


def get_init_inputs():
    return []
