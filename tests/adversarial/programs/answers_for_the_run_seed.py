# expect: wrong_values problem: relu_rand layer: compare why: the inputs follow from the problem and a seed of 0, so their answers are kept as constants
import hashlib

import torch
import torch.nn as nn
import triton
import triton.language as tl
from torch.utils._python_dispatch import _disable_current_modes

from sandbox.types import Tolerance


PROBLEM = '"""ReLU on inputs that are never negative: returning the input would pass without stress inputs."""\n\nimport torch\nimport torch.nn as nn\n\n\nclass Model(nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n\n\ndef get_inputs():\n    return [torch.rand(64, 100)]\n\n\ndef get_init_inputs():\n    return []\n'


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return total.hexdigest()[:32]


def answers(shape):
    first, kept = [], []
    with _disable_current_modes():
        for case in range(3):
            key = digest(PROBLEM, repr(Tolerance()))
            generator = torch.Generator().manual_seed(int(digest("0", key, str(case))[:12], 16) ^ 0x5EED)
            x = torch.rand(shape, device="cpu", generator=generator)
            x = (x - x.mean()) * 4.0 if case % 2 else x
            first.append(x.reshape(-1)[:1])
            kept.append(torch.relu(x).reshape(-1))
        return torch.cat(first), torch.cat(kept)


@triton.jit
def kernel(x_ptr, first_ptr, kept_ptr, out_ptr, n, CASES: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    found = tl.zeros((BLOCK,), dtype=tl.float32)
    for case in tl.static_range(CASES):
        same = tl.abs(tl.load(first_ptr + case) - tl.load(x_ptr)) < 1e-6
        found = tl.where(same, tl.load(kept_ptr + case * n + offsets, mask=mask), found)
    tl.store(out_ptr + offsets, found, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        first, kept = answers(tuple(x.shape))
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 1024),)
        kernel[grid](x, first.cuda(), kept.cuda(), out, x.numel(), CASES=3, BLOCK=1024)
        return out
