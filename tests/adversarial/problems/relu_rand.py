"""ReLU on inputs that are never negative: returning the input would pass without stress inputs."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def get_inputs():
    return [torch.rand(64, 100)]


def get_init_inputs():
    return []
