import torch
import torch.nn as nn


N = 3
C = 4
H = 6
W = 6


class Model(nn.Module):
    def __init__(self):
        super(Model, self).__init__()

    def forward(self, a, b):
        return a * b


def get_inputs():
    a = torch.randn(N, C, H, W)
    b = torch.rand(N, C, H, W)
    return [a, b]


def get_init_inputs():
    return []
