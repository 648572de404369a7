# problem: half_tiles
import torch
import torch.nn as nn
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


def set_blocks(nargs):
    BM, BN, BK = nargs["BM"], nargs["BN"], nargs["BK"]
    nargs["a_desc"].block_shape = [BM, BK]
    nargs["b_desc"].block_shape = [BK, BN]
    nargs["c_desc"].block_shape = [BM, BN // 2]


CONFIGS = [
    triton.Config({"BM": 128, "BN": 128, "BK": 64}, num_warps=8, num_stages=3, pre_hook=set_blocks),
    triton.Config({"BM": 64, "BN": 256, "BK": 32}, num_warps=4, num_stages=4, pre_hook=set_blocks),
]


@triton.autotune(configs=CONFIGS, key=["M", "N", "K"])
@triton.jit
def kernel(a_desc, b_desc, c_desc, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    num_n = tl.cdiv(N, BN)
    num_tiles = tl.cdiv(M, BM) * num_n
    for tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0)):
        at_m, at_n = tile // num_n * BM, tile % num_n * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for start in range(0, K, BK):
            acc = tl.dot(a_desc.load([at_m, start]), b_desc.load([start, at_n]), acc)
        halves = tl.permute(tl.reshape(acc, (BM, 2, BN // 2)), (0, 2, 1))
        left, right = tl.split(halves)
        c_desc.store([at_m, at_n], left.to(tl.float16))
        c_desc.store([at_m, at_n + BN // 2], right.to(tl.float16))


class ModelNew(nn.Module):
    def forward(self, a, b):
        (M, K), N = a.shape, b.shape[1]
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        blank = [1, 1]
        descriptors = [TensorDescriptor(t, t.shape, t.stride(), blank) for t in (a, b, c)]
        kernel[lambda meta: (min(4, triton.cdiv(M, meta["BM"]) * triton.cdiv(N, meta["BN"])),)](*descriptors, M, N, K)
        return c
