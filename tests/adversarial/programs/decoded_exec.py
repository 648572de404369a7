# expect: rejected problem: relu_rand layer: policy why: the code is decoded and executed, and still only torch computes
import base64

import torch
import torch.nn as nn
import triton
import triton.language as tl


PAYLOAD = "ZGVmIGNvbXB1dGUoeCk6CiAgICByZXR1cm4gZ2V0YXR0cih0b3JjaCwgInJlIiArICJsdSIpKHgpCg=="
exec(base64.b64decode(PAYLOAD).decode(), globals())


class ModelNew(nn.Module):
    def forward(self, x):
        return compute(x)
