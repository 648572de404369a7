# problem: embedding_sum
import torch
import torch.nn as nn
import triton
import triton.language as tl

@triton.jit
def kernel(index_ptr, tokens_ptr, positions_ptr, out_ptr, T, D, BLOCK: tl.constexpr):
    at = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < D
    token = tl.load(index_ptr + at)
    x = tl.load(tokens_ptr + token * D + cols, mask=mask) + tl.load(positions_ptr + (at % T) * D + cols, mask=mask)
    tl.store(out_ptr + at * D + cols, x, mask=mask)


class Embedder(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        for name, (n, d) in sizes.items():
            setattr(self, name, nn.Embedding(n, d))


class ModelNew(Embedder):
    def __init__(self):
        super().__init__({"tokens": (40, 24), "positions": (12, 24)})

    def forward(self, index):
        out = torch.empty((*index.shape, 24), device=index.device, dtype=self.tokens.weight.dtype)
        kernel[(index.numel(),)](index, self.tokens.weight, self.positions.weight, out, index.shape[1], 24, BLOCK=32)
        return out
