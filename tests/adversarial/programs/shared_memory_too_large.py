# expect: launch_error|compile_error problem: matmul_small layer: launch|trace why: blocks that need more shared memory than a multiprocessor has
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, N, K, DEPTH, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    rm = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rn = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, DEPTH, BLOCK_K):
        rk = k + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + rm[:, None] * K + rk[None, :])
        b = tl.load(b_ptr + rk[:, None] * N + rn[None, :])
        acc += tl.dot(a, b)
    tl.store(c_ptr + rm[:, None] * N + rn[None, :], acc)


class ModelNew(nn.Module):
    def forward(self, a, b):
        c = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype)
        grid = (a.shape[0] // 16, b.shape[1] // 16)
        matmul_kernel[grid](
            a,
            b,
            c,
            b.shape[1],
            a.shape[1],
            a.shape[1],
            BLOCK_M=128,
            BLOCK_N=128,
            BLOCK_K=128,
            num_stages=5,
            num_warps=8,
        )
        return c
