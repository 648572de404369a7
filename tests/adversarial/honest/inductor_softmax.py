# problem: softmax_small
import torch
import torch.nn as nn
import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import libdevice, math as tl_math

assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda


@triton.jit
def triton_red_fused__softmax_0(in_ptr0, out_ptr2, xnumel, rnumel, XBLOCK: tl.constexpr, RBLOCK: tl.constexpr):
    xindex = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:, None]
    xmask = xindex < xnumel
    rbase = tl.arange(0, RBLOCK)[None, :]
    x0 = xindex
    _tmp2 = tl.full([XBLOCK, RBLOCK], float("-inf"), tl.float32)
    for roffset in range(0, rnumel, RBLOCK):
        rindex = roffset + rbase
        rmask = rindex < rnumel
        tmp0 = tl.load(in_ptr0 + (rindex + rnumel * x0), rmask & xmask, eviction_policy='evict_last', other=0.0)
        tmp1 = tl.broadcast_to(tmp0, [XBLOCK, RBLOCK])
        tmp3 = triton_helpers.maximum(_tmp2, tmp1)
        _tmp2 = tl.where(rmask & xmask, tmp3, _tmp2)
    tmp2 = triton_helpers.max2(_tmp2, 1)[:, None]
    _tmp8 = tl.full([XBLOCK, RBLOCK], 0, tl.float32)
    for roffset in range(0, rnumel, RBLOCK):
        rindex = roffset + rbase
        rmask = rindex < rnumel
        tmp4 = tl.load(in_ptr0 + (rindex + rnumel * x0), rmask & xmask, eviction_policy='evict_last', other=0.0)
        tmp6 = tl_math.exp(tmp4 - tmp2)
        tmp9 = _tmp8 + tl.broadcast_to(tmp6, [XBLOCK, RBLOCK])
        _tmp8 = tl.where(rmask & xmask, tmp9, _tmp8)
    tmp8 = tl.sum(_tmp8, 1)[:, None]
    for roffset in range(0, rnumel, RBLOCK):
        rindex = roffset + rbase
        rmask = rindex < rnumel
        tmp10 = tl.load(in_ptr0 + (rindex + rnumel * x0), rmask & xmask, eviction_policy='evict_first', other=0.0)
        tl.store(out_ptr2 + (rindex + rnumel * x0), tl_math.exp(tmp10 - tmp2) / tmp8, rmask & xmask)


class ModelNew(nn.Module):
    def forward(self, arg0_1):
        xnumel, rnumel = arg0_1.shape
        assert_size_stride(arg0_1, (xnumel, rnumel), (rnumel, 1))
        with torch.cuda._DeviceGuard(0):
            torch.cuda.set_device(0)
            buf2 = empty_strided_cuda((xnumel, rnumel), (rnumel, 1), torch.float32)
            triton_red_fused__softmax_0[(triton.cdiv(xnumel, 8),)](arg0_1, buf2, xnumel, rnumel, XBLOCK=8, RBLOCK=64)
            del arg0_1
        return (buf2, )[0]
