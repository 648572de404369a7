import torch
import torch.nn as nn


N = 1
C = 4
H = 6
W = 6


class Model(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(dim, 1, 1))
        self.scale = nn.Parameter(torch.randn(dim, 1, 1))

    def forward(self, x):
        x = torch.sub(x, self.bias)
        x = torch.add(x, self.scale)
        return torch.abs(x)


def get_inputs():
    x = torch.randn(N, C, H, W)
    return [x]


def get_init_inputs():
    return [C]
