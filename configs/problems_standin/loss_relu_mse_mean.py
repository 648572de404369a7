import torch
import torch.nn as nn


class Model(nn.Module):
    """Mse loss."""
    def __init__(self):
        super(Model, self).__init__()
        self.relu = nn.ReLU()

    def forward(self, logits, target):
        logits = self.relu(logits)
        return torch.mean((logits - target) ** 2)


batch_size = 20
hidden = 127


def get_inputs():
    logits = torch.randn(batch_size, hidden)
    target = torch.randn(batch_size, hidden)
    return [logits, target]


def get_init_inputs():
    return []
