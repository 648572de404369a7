"""An embedding: integers come in, weights are picked."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 32)

    def forward(self, index):
        return self.table(index)


def get_inputs():
    return [torch.randint(0, 50, (8, 20))]


def get_init_inputs():
    return []
