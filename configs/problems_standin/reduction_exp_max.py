import torch
import torch.nn as nn


batch = 4
channels = 5
length = 64


class Model(nn.Module):
    def forward(self, x):
        x = torch.exp(x)
        return x.max(dim=1).values


def get_inputs():
    return [torch.randn(batch, channels, length)]


def get_init_inputs():
    return []
