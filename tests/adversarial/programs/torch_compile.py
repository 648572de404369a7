# expect: rejected|untraceable|trace_error problem: relu_rand layer: policy|trace why: the kernel would be Inductor's, not the candidate's
import torch
import torch.nn as nn
import triton
import triton.language as tl


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.compile(torch.relu)(x)
