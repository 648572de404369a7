"""A matrix product in half precision, of more than one tile each way and of no whole number of them."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(200, 192).half(), torch.randn(192, 264).half()]


def get_init_inputs():
    return []
