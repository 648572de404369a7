# problem: row_sums
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.heuristics({
    "BLOCK": lambda args: triton.next_power_of_2(args["n"]),
    "EVEN": lambda args: args["n"] == triton.next_power_of_2(args["n"]),
    "num_warps": lambda args: 8 if args["n"] > 4096 else 1,
})
@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    if EVEN:
        x = tl.load(x_ptr + tl.program_id(0) * n + cols)
    else:
        x = tl.load(x_ptr + tl.program_id(0) * n + cols, mask=cols < n, other=0.0)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x))


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty(x.shape[:-1], device=x.device, dtype=x.dtype)
        kernel[(x.shape[0],)](x, out, x.shape[-1])
        return out
