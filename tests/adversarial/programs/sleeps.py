# expect: timeout problem: relu_rand layer: deadline limits: wall=3 why: waits, deaf to every signal that can be refused
import signal
import time

import torch
import torch.nn as nn
import triton
import triton.language as tl


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGXCPU, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
time.sleep(60.0)


class ModelNew(nn.Module):
    def forward(self, x):
        return x
