# expect: trace_error problem: relu_rand layer: isolation why: folders nested too deeply for a recursive clean-up
import os

import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os._exit(0)
