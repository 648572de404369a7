# problem: affine_norm
import torch
import torch.nn as nn
import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import libdevice

empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda


@triton.jit
def triton_per_fused_native_layer_norm_0(in_out_ptr0, in_ptr0, in_ptr1, in_ptr2, out_ptr0, out_ptr1, xnumel, rnumel,
                                         XBLOCK: tl.constexpr):
    xnumel = 16
    rnumel = 120
    RBLOCK: tl.constexpr = 128
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:, None]
    xmask = xindex < xnumel
    rindex = tl.arange(0, RBLOCK)[None, :]
    roffset = 0
    rmask = rindex < rnumel
    r1 = rindex
    x0 = xindex
    tmp0 = tl.load(in_ptr0 + (r1 + 120 * x0), rmask & xmask, other=0.0)
    tmp24 = tl.load(in_ptr1 + (r1), rmask, eviction_policy='evict_last', other=0.0)
    tmp26 = tl.load(in_ptr2 + (r1), rmask, eviction_policy='evict_last', other=0.0)
    tmp1 = tl.broadcast_to(tmp0, [XBLOCK, RBLOCK])
    tmp3 = tl.where(rmask & xmask, tmp1, 0)
    tmp6 = tl.where(rmask & xmask, tmp1, 0)
    tmp7 = tl.sum(tmp6, 1)[:, None]
    tmp8 = tl.full([XBLOCK, 1], 120, tl.int32)
    tmp9 = tmp8.to(tl.float32)
    tmp10 = tmp7 / tmp9
    tmp11 = tmp1 - tmp10
    tmp12 = tmp11 * tmp11
    tmp15 = tl.where(rmask & xmask, tmp12, 0)
    tmp16 = tl.sum(tmp15, 1)[:, None]
    tmp17 = 120.0
    tmp18 = tmp16 / tmp17
    tmp19 = 1e-05
    tmp20 = tmp18 + tmp19
    tmp21 = libdevice.rsqrt(tmp20)
    tmp22 = tmp0 - tmp10
    tmp23 = tmp22 * tmp21
    tmp25 = tmp23 * tmp24
    tmp27 = tmp25 + tmp26
    tl.debug_barrier()
    tl.store(in_out_ptr0 + (x0), tmp21, xmask)
    tl.store(out_ptr1 + (r1 + 120 * x0), tmp27, rmask & xmask)
    tl.store(out_ptr0 + (x0), tmp10, xmask)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(120)

    def forward(self, input_0):
        primals_1, primals_2, primals_3 = self.norm.weight, self.norm.bias, input_0
        buf0 = empty_strided_cuda((16, 1), (1, 1), torch.float32)
        buf1 = empty_strided_cuda((16, 1), (1, 16), torch.float32)
        buf3 = buf1; del buf1  # reuse
        buf4 = empty_strided_cuda((16, 120), (120, 1), torch.float32)
        triton_per_fused_native_layer_norm_0[(triton.cdiv(16, 1),)](buf3, primals_3, primals_1, primals_2, buf0, buf4, 16, 120, XBLOCK=1, num_warps=2, num_stages=1)
        del primals_1, primals_2
        return buf4
