# expect: untraceable|trace_error|compile_error|illegal_access problem: relu_rand layer: trace|guard why: an address is passed as an integer, so that no one sees which tensor is read
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def address_kernel(address, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(address.to(tl.pointer_type(tl.float32)) + offsets, mask=mask)
    tl.store(out_ptr + offsets, tl.maximum(x, 0.0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        address_kernel[(triton.cdiv(x.numel(), 1024),)](x.data_ptr(), out, x.numel(), BLOCK=1024)
        return out
