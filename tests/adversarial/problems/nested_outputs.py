"""Outputs in a dictionary that holds a tuple and another dictionary, with numbers and None beside tensors."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        low, high = x.amin(1), x.amax(1)
        return {"scaled": x * 0.5, "bounds": (low, high), "more": {"span": high - low, "rows": x.shape[0], "factor": 0.5, "state": None}}


def get_inputs():
    return [torch.randn(9, 60)]


def get_init_inputs():
    return []
