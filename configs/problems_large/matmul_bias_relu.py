"""A matrix product with a bias and a ReLU as its epilogue."""

import torch
import torch.nn as nn

M = 4096
K = 2048
N = 4096


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.matmul(a, b) + bias)


def get_inputs():
    return [torch.randn(M, K), torch.randn(K, N), torch.randn(N)]


def get_init_inputs():
    return []
