"""A gated recurrence along time."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, gate, value):
        state = value[:, 0]
        states = [state]
        for t in range(1, value.shape[1]):
            state = torch.sigmoid(gate[:, t]) * state + value[:, t]
            states.append(state)
        return torch.stack(states, dim=1)


def get_inputs():
    return [torch.randn(3, 16, 8), torch.randn(3, 16, 8)]


def get_init_inputs():
    return []
