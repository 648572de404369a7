# expect: trace_error problem: relu_rand layer: isolation why: claims success and ends the process with code 0
import os

import torch
import torch.nn as nn
import triton
import triton.language as tl


print("PASS", flush=True)
os._exit(0)


class ModelNew(nn.Module):
    def forward(self, x):
        return x
