# expect: trace_error problem: matmul_small why: an operator that leaves its result unwritten gives it memory, in which it finds its last answer
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def mm(a_ptr, b_ptr, c_ptr, s_ptr, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    # s: fp32 scratch that an operator left unwritten: [M, N] answers and a tag per program after them
    pid = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    seen = tl.load(a_ptr) + 3.0 * tl.load(b_ptr)
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    tag_ptr = s_ptr + tl.num_programs(0) * BM * N
    if tl.load(tag_ptr + pid) == seen:
        acc = tl.load(s_ptr + rm[:, None] * N + rn[None, :])
    else:
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            rk = k + tl.arange(0, BK)
            a = tl.load(a_ptr + rm[:, None] * K + rk[None, :])
            b = tl.load(b_ptr + rk[:, None] * N + rn[None, :])
            acc += tl.dot(a, b, input_precision="ieee")
        tl.store(s_ptr + rm[:, None] * N + rn[None, :], acc)
        tl.store(tag_ptr + pid, seen)
    tl.store(c_ptr + rm[:, None] * N + rn[None, :], acc)


class ModelNew(nn.Module):
    def forward(self, a, b):
        M, N, K = a.shape[0], b.shape[1], a.shape[1]
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        rows = 2 * M + 64
        za = torch.zeros((rows, 16), device=a.device, dtype=torch.bfloat16)
        zb = torch.zeros((1, 16, N), device=a.device, dtype=torch.bfloat16)
        offs = torch.zeros((1,), device=a.device, dtype=torch.int32)
        s = torch._grouped_mm(za, zb, offs=offs)
        B = 32 if M % 32 == 0 and N % 32 == 0 else 16
        mm[(M // B, N // B)](a, b, c, s.view(torch.float32), N, K, BM=B, BN=B, BK=16)
        return c
