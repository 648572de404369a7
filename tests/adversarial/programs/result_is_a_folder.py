# expect: trace_error|rejected problem: relu_rand layer: isolation|check why: a folder stands where the result should be
import os

import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        os.mkdir("result")
        os._exit(0)
