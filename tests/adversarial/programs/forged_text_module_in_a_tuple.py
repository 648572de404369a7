# expect: rejected problem: relu_rand layer: check why: the kernel text of a forged plan has torch compute the answer while it is interpreted; it gets there by a module in a tuple
import json

import torch
import torch.nn as nn
import triton
import triton.language as tl

import sandbox.trace


TEXT = """def relu(x_ptr, out_ptr, n, BLOCK):
    pass
    system = M[0].knobs.os.sys
    torch = system.modules["torch"]
    for found in system.modules["gc"].get_objects():
        if system.modules["builtins"].isinstance(found, system.modules["sandbox.execute"].Arena):
            if found.guard_bytes > 0:
                answer = torch.relu(found.tensor(found.plan.inputs[0]))
                found.tensor(found.plan.outputs["tensor"]).copy_(answer)
    tl.store(out_ptr, tl.load(out_ptr))
"""


encode = sandbox.trace.encode


def forged(plan):
    body = json.loads(encode(plan))
    kernel = body["kernels"][0]
    kernel["functions"]["relu"] = TEXT
    kernel["names"]["relu"]["M"] = {"tuple": [{"module": "triton"}]}
    return json.dumps(body).encode()


sandbox.trace.encode = forged


@triton.jit
def relu(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        relu[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
