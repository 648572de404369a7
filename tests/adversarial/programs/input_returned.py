# expect: rejected problem: relu_rand layer: check why: the output is the input tensor itself
import torch
import torch.nn as nn
import triton
import triton.language as tl


class ModelNew(nn.Module):
    def forward(self, x):
        return x
