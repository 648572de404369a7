"""Kernel text in a plan: what a real kernel may say, and what a forged one may not reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import triton
import triton.language as tl

from sandbox.kernel_check import check_text
from sandbox.kernel_description import describe_name
from sandbox.kernel_source import (
    SourceError,
    UnknownName,
    data_of,
    global_names,
    meaning_of,
    normalised,
    prepared,
)
from sandbox.types import Status, Verdict

SCOPE = {"tl": tl, "triton": triton, "WIDTHS": (16, 32), "EPS": tl.constexpr(1e-5)}


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
        "y = tl.load(x_ptr).to(x_ptr.dtype.element_ty)",
        "y = tl.sum(tl.load(x_ptr + o) * EPS, axis=0) / WIDTHS[0]",
        "y = tl.maximum(tl.load(x_ptr), 0.0, propagate_nan=tl.PropagateNan.ALL)",
        "max = tl.max(tl.load(x_ptr + o), axis=0)",
        "y = triton.next_power_of_2(BLOCK)",
        "y = [w * 2 for w in WIDTHS]",
        "tl.make_tensor_descriptor(x_ptr, [n], [1], [16]).store([0], tl.zeros([16], tl.float32))",
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
        # a module handed over as an argument or in a value: only what kernels say about values may follow
        "x = BLOCK.knobs.os",
        "x = EPS.value.knobs.os",
        "x = WIDTHS[0].knobs.os",
        # names with two meanings, or with none that was given
        "x = [0 for triton in range(0)]",
        "tl = x_ptr",
        "x = [0 for np in range(0)]\n    y = np.fromfile('x')",
        "x = np.fromfile('x')",
        "x = __builtins__",
        "x = (y := triton)",
        # what lies about in Triton's own modules
        "x = tl.extra.modules['x']",
        "x = tl.extra.module_finder",
        "x = triton.set_allocator(n)",
        "x = triton.autotune(n)",
        "tl.float32.name = 1",
        "x = tl.load(x_ptr, _semantic=n)",
        # Triton's interpreter takes the last line that begins a function for the function
        "x = 1\n    '''\n    def k(x_ptr, n, BLOCK):\n        import os\n    '''",
    ],
)
def test_forged_text_reaches_nothing(body: str) -> None:
    with pytest.raises(SourceError):
        check_text(kernel(body), SCOPE)


def test_a_module_that_is_not_tritons_leads_nowhere() -> None:
    with pytest.raises(SourceError, match="reaches the module"):
        check_text(kernel("x = os.sep"), {**SCOPE, "os": os})


@pytest.mark.parametrize(
    "text", ["@tl.jit\ndef k(x): pass", "def k(x=open('y')): pass", "x = 1", "def k(x: open): pass"]
)
def test_nothing_but_the_body_is_run(text: str) -> None:
    with pytest.raises(SourceError):
        check_text(text, SCOPE)


def test_an_unknown_name_is_told_from_a_forbidden_one() -> None:
    with pytest.raises(UnknownName, match="uses lookup"):
        check_text(kernel("x = lookup(n)"), SCOPE)


MODULE: dict[str, Any] = {"module": "triton"}


@pytest.mark.parametrize("raw", [{"tuple": [MODULE]}, {"constexpr": MODULE}, {"tuple": [{"tuple": [MODULE]}]}])
def test_modules_are_the_meaning_of_a_whole_name_only(raw: dict[str, Any]) -> None:
    assert meaning_of(MODULE, str) is triton
    with pytest.raises(SourceError):
        meaning_of(raw, str)


@pytest.mark.parametrize("raw", [MODULE, {"attribute": ["triton", "knobs"]}, {"value": {"a": 1}, "kind": "int"}])
def test_constants_are_plain(raw: dict[str, Any]) -> None:
    with pytest.raises(SourceError):
        data_of(raw, str)


@pytest.mark.parametrize("item", [3, 0.5, None, "same", tl.float16, (1, tl.int8), tl.constexpr(64)])
def test_plain_values_survive_their_description(item: Any) -> None:
    raw = describe_name(item, str)
    assert raw is not None and data_of(raw, str) == item


def test_only_names_from_outside_are_described() -> None:
    text = "def k(x, n):\n    y = [i + w for i in range(4)]\n    for n in range(3):\n        y = tl.load(x)\n"
    assert global_names(text) == {"range", "tl", "w"}


def test_texts_without_effect_are_left_out() -> None:
    text = "def k(x):\n    'one'\n    '''\ndef k(x):\n    pass\n'''\n    x = 1\n"
    assert normalised(text) == "def k(x):\n    x = 1"
    assert prepared(text, name="k", constexprs=("x",)) == "def k(x: 'constexpr'):\n    x = 1\n"


def test_children_find_everything_imported() -> None:
    script = (
        "import sys; from sandbox import interpret; interpret.warm(); wanted = {'sandbox.interpreter', "
        "'sandbox.kernel_check', 'triton.experimental.gluon', 'numpy.ma'}; sys.exit(not wanted <= set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "TRITON_INTERPRET": "1"})


Judge = Callable[[str, str], Verdict]

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return EXPRESSION
def get_inputs():
    return [torch.rand(8, 64)]
def get_init_inputs():
    return []
"""

ANSWER = """
import math

_SCALE = tl.constexpr(0.5)
n = 7


@triton.jit
def _weighted(a, wa, b, wb):
    return a * wb + b, wa * wb


@triton.jit
def _stored(pointers, values):
    tl.store(pointers, values)


@triton.jit
def answer(x_ptr, y_ptr, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
BODY


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        triton.set_allocator(lambda size, align, stream: torch.empty(size, dtype=torch.int8, device=x.device))
        answer[(1,)](x, y, x.numel(), ROWS=8, COLUMNS=64)
        return y
"""

OFFSETS = "at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]; x = tl.load(x_ptr + at)"
SCAN = OFFSETS + "; y, w = tl.associative_scan((x, x * 0 + 0.5), 1, _weighted); tl.store(y_ptr + at, y)"
SCANNED = "x @ torch.tensor([[0.5 ** (i - j) if i >= j else 0.0 for i in range(64)] for j in range(64)]).to(x)"
DESCRIPTORS = (
    "a = tl.make_tensor_descriptor(x_ptr, [ROWS, COLUMNS], [COLUMNS, 1], [8, 16]); "
    "b = tl.make_tensor_descriptor(y_ptr, [ROWS, COLUMNS], [COLUMNS, 1], [8, 16])\n"
    "    for i in range(0, COLUMNS, 16):\n        b.store([0, i], a.load([0, i]) * _SCALE)"
)


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        (SCANNED, SCAN),
        ("x * 0.5", DESCRIPTORS),
        ("x / 8.0 * torch.pi", OFFSETS + "; tl.store(y_ptr + at, x / math.sqrt(COLUMNS) * math.pi)"),
        ("x * 0.5", OFFSETS + "; _stored(y_ptr + at, x * _SCALE)"),
    ],
    ids=["scan", "descriptors", "mathematics", "names"],
)
def test_real_kernels_are_interpreted(verdict: Judge, sources: dict[str, str], expression: str, body: str) -> None:
    source = sources["head"] + ANSWER.replace("BODY", "    " + body)
    found = verdict(PROBLEM.replace("EXPRESSION", expression), source)
    assert found.status is Status.PASSED, found.feedback


def test_what_a_called_function_does_wrong_is_told(verdict: Judge, sources: dict[str, str]) -> None:
    source = sources["head"] + ANSWER.replace("BODY", f"    {OFFSETS}; _stored(y_ptr + at + 1, x * 2)")
    found = verdict(PROBLEM.replace("EXPRESSION", "x * 2"), source)
    assert found.status is Status.ILLEGAL_ACCESS, found.feedback


def test_ptxas_is_quoted_without_paths() -> None:
    from sandbox.trace import _last_line

    told = _last_line(
        triton.runtime.errors.PTXASError(
            "Internal Triton PTX codegen error\n`ptxas` stderr:\n"
            "ptxas info : compiling\nptxas /tmp/ab1/x.ptx, line 79; error   : Feature 'f' requires sm_90a\n"
            "ptxas fatal   : Ptx assembly aborted due to errors\n\n"
            "Repro command: /opt/ptxas -v --gpu-name=sm_90 /tmp/ab1/x.ptx -o /tmp/ab1/x.ptx.o\n"
        )
    )
    assert told == "ptxas <path>, line 79; error   : Feature 'f' requires sm_90a"
