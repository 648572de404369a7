# problem: mean_of_all
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def mean(x_ptr, part_ptr, done_ptr, out_ptr, n, BLOCK: tl.constexpr, PARTS: tl.constexpr):
    program = tl.program_id(0)
    offsets = program * BLOCK + tl.arange(0, BLOCK)
    tl.store(part_ptr + program, tl.sum(tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)))
    tl.debug_barrier()
    if tl.atomic_add(done_ptr, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        at = tl.arange(0, PARTS)
        parts = tl.load(part_ptr + at, mask=at < tl.num_programs(0), other=0.0)
        tl.store(out_ptr, tl.sum(parts) / n)
        tl.atomic_xchg(done_ptr, 0)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("done", torch.zeros(1, dtype=torch.int32), persistent=False)
        self.register_buffer("parts", torch.zeros(4096), persistent=False)

    def forward(self, x):
        grid = triton.cdiv(x.numel(), 512)
        out = x.new_empty(())
        mean[(grid,)](x, self.parts, self.done, out, x.numel(), BLOCK=512, PARTS=triton.next_power_of_2(grid))
        return out
