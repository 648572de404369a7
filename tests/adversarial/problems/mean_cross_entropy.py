"""The mean cross entropy of integer labels."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits, labels)


def get_inputs():
    return [torch.randn(24, 30), torch.randint(0, 30, (24,))]


def get_init_inputs():
    return []
