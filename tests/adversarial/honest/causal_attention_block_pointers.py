# problem: causal_attention
import math

import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def attn_fwd(Q, K, V, O, sm_scale, stride_h, stride_t, T, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    start_m = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64) * stride_h
    q_block = tl.make_block_ptr(Q + head, (T, D), (stride_t, 1), (start_m * BM, 0), (BM, D), (1, 0))
    k_block = tl.make_block_ptr(K + head, (D, T), (1, stride_t), (0, 0), (D, BN), (0, 1))
    v_block = tl.make_block_ptr(V + head, (T, D), (stride_t, 1), (0, 0), (BN, D), (1, 0))
    o_block = tl.make_block_ptr(O + head, (T, D), (stride_t, 1), (start_m * BM, 0), (BM, D), (1, 0))
    offs_m = start_m * BM + tl.arange(0, BM)
    m_i = tl.zeros([BM], tl.float32) - float("inf")
    l_i = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, D], tl.float32)
    q = tl.load(q_block, boundary_check=(0,), padding_option="zero") * sm_scale
    hi = tl.minimum((start_m + 1) * BM, T)
    for start_n in range(0, hi, BN):
        start_n = tl.multiple_of(start_n, BN)
        cols = start_n + tl.arange(0, BN)
        qk = tl.dot(q, tl.load(k_block, boundary_check=(1,), padding_option="zero"), input_precision="ieee")
        qk = tl.where((offs_m[:, None] >= cols[None, :]) & (cols[None, :] < T), qk, float("-inf"))
        m_ij = tl.maximum(m_i, tl.max(qk, 1))
        p = tl.exp(qk - m_ij[:, None])
        alpha = tl.exp(m_i - m_ij)
        l_i = l_i * alpha + tl.sum(p, 1)
        acc = acc * alpha[:, None]
        acc = tl.dot(p, tl.load(v_block, boundary_check=(0,), padding_option="zero"), acc, input_precision="ieee")
        m_i = m_ij
        k_block = tl.advance(k_block, (0, BN))
        v_block = tl.advance(v_block, (BN, 0))
    tl.store(o_block, acc / l_i[:, None], boundary_check=(0,))


class ModelNew(nn.Module):
    def forward(self, q, k, v):
        batch, heads, T, D = q.shape
        o = torch.empty_like(q)
        grid = (triton.cdiv(T, 16), batch * heads, 1)
        attn_fwd[grid](q, k, v, o, 1.0 / math.sqrt(D), q.stride(1), q.stride(2), T, D=D, BM=16, BN=16)
        return o
