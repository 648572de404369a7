# expect: trace_error|rejected problem: relu_rand layer: isolation|check why: uses the recorder's own encoder to send a plan that is none
import os
import sys

import torch
import torch.nn as nn
import triton
import triton.language as tl


def forge():
    wire = sys.modules.get("sandbox.wire")
    if wire is None:
        raise RuntimeError("nothing to forge with")
    message = wire.pack({"status": None, "failure": None}, [b"\xff" * 4096])
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, message)
        except OSError:
            continue
    os._exit(0)


class ModelNew(nn.Module):
    def forward(self, x):
        forge()
        return x
