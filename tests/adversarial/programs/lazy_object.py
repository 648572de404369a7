# expect: trace_error problem: relu_rand layer: trace why: an object that would compute when it is looked at, and runs code when it is unpickled
import torch
import torch.nn as nn
import triton
import triton.language as tl


class Later:
    shape = (64, 100)
    dtype = torch.float32

    def __init__(self, x):
        self.x = x

    def __getattr__(self, name):
        return getattr(torch.relu(self.x), name)

    def __reduce__(self):
        return (print, ("unpickled",))


class ModelNew(nn.Module):
    def forward(self, x):
        return Later(x)
