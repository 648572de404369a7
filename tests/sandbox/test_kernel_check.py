"""Kernel text in a plan: what a real kernel may say, and what a forged one may not reach."""

from __future__ import annotations

import pytest
import triton
import triton.language as tl

from sandbox.kernel_check import check_text
from sandbox.kernel_source import SourceError

SCOPE = {"tl": tl, "triton": triton}


def kernel(body: str) -> str:
    return f"def k(x_ptr, n, BLOCK):\n    o = tl.arange(0, BLOCK)\n    {body}\n"


@pytest.mark.parametrize(
    "body",
    [
        "tl.store(x_ptr + o, tl.math.exp(tl.load(x_ptr + o, mask=o < n)).to(tl.float32), mask=o < n)",
        "acc = tl.zeros([BLOCK], dtype=tl.float32)",
        "for i in range(0, n, BLOCK):\n        tl.store(x_ptr + i, 0.0)",
        "x = tl.extra.cuda.libdevice.tanh(tl.load(x_ptr))",
        "tl.static_assert(BLOCK > 1, f'block {BLOCK}')",
        "y = tl.load(x_ptr).T.reshape(1, n)",
    ],
)
def test_real_kernels_may_be_said(body: str) -> None:
    check_text(kernel(body), SCOPE)


@pytest.mark.parametrize(
    "body",
    [
        "import os",
        "x = (lambda: 1)()",
        "x = tl.core.os.getcwd()",
        "x = tl.core.__builtins__",
        "x = x_ptr.__class__",
        "m = tl",
        "m = tl.math",
        "x = x_ptr.handle.data.tofile('result')",
        "x = '{0.__class__}'.format(n)",
        "x = triton.compile(n)",
        "x = tl.core.builtins.open",
        "class A: pass",
        "try:\n        x = 1\n    except ValueError:\n        x = 2",
        "def inner(): return 1",
    ],
)
def test_forged_text_reaches_nothing(body: str) -> None:
    with pytest.raises(SourceError):
        check_text(kernel(body), SCOPE)
