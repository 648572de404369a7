# expect: passed problem: matmul_small layer: construction why: keeps its answer in fresh memory under the bits of its inputs, to leave the work out when it is run again to be timed; memory is fresh before each run, so nothing is found
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, tag_ptr, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    seen = tl.load(a_ptr) + 3.0 * tl.load(b_ptr)
    if tl.load(tag_ptr + program) != seen:
        rm = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
        rn = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for k in range(0, K, BLOCK_K):
            rk = k + tl.arange(0, BLOCK_K)
            a = tl.load(a_ptr + rm[:, None] * K + rk[None, :])
            b = tl.load(b_ptr + rk[:, None] * N + rn[None, :])
            acc += tl.dot(a, b, input_precision="ieee")
        tl.store(c_ptr + rm[:, None] * N + rn[None, :], acc)
        tl.store(tag_ptr + program, seen)


class ModelNew(nn.Module):
    def forward(self, a, b):
        c = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype)
        grid = (a.shape[0] // 16, b.shape[1] // 16)
        tag = torch.empty(grid, device=a.device, dtype=a.dtype)
        matmul_kernel[grid](a, b, c, tag, b.shape[1], a.shape[1], BLOCK_M=16, BLOCK_N=16, BLOCK_K=16)
        return c
