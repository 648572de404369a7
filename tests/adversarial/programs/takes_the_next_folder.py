# expect: trace_error problem: relu_rand layer: trace why: the folder of the next call is taken, so that another candidate fails
import os

import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        base, number = os.getcwd().rsplit("-", 1)
        os.mkdir(f"{base}-{int(number) + 1}")
        os._exit(0)
