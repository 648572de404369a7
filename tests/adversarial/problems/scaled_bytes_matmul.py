"""A product of bytes, scaled by row and by column."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, a, b, row_scale, column_scale):
        return (a.to(torch.int32).float() @ b.to(torch.int32).float()) * row_scale[:, None] * column_scale[None, :]


def get_inputs():
    a = torch.randint(-100, 100, (32, 64), dtype=torch.int8)
    b = torch.randint(-100, 100, (64, 32), dtype=torch.int8)
    return [a, b, torch.rand(32), torch.rand(32)]


def get_init_inputs():
    return []
