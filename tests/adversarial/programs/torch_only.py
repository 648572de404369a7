# expect: rejected problem: relu_rand layer: policy why: no kernel at all: torch computes the answer
import torch
import torch.nn as nn
import triton
import triton.language as tl


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.relu(x)
