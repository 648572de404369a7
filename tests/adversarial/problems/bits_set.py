"""How many bits are set, of the lowest sixteen."""

import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        places = torch.arange(16, device=x.device, dtype=x.dtype)
        return ((x[..., None] >> places) & 1).sum(dim=-1, dtype=torch.int32)


def get_inputs():
    return [torch.randint(0, 65536, (11, 40), dtype=torch.int32)]


def get_init_inputs():
    return []
