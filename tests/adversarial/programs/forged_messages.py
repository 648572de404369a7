# expect: trace_error|rejected problem: relu_rand layer: isolation|check why: writes claims of success to every open descriptor and leaves
import os

import torch
import torch.nn as nn
import triton
import triton.language as tl


CLAIM = b'{"status": "passed", "correct": true, "speedup": 100.0, "plan_hash": "0"}'
for descriptor in range(3, 256):
    for message in (len(CLAIM).to_bytes(8, "big") + CLAIM, len(CLAIM).to_bytes(8, "little") + CLAIM, CLAIM + b"\n"):
        try:
            os.write(descriptor, message)
        except OSError:
            break
os._exit(0)


class ModelNew(nn.Module):
    def forward(self, x):
        return x
