"""What is found in a candidate's text, and what is left alone. The table of names is a small one of our own."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.count_literals import count_findings
from sandbox.feedback import MAX_FEEDBACK_CHARACTERS, render_feedback
from sandbox.findings import MAX_FINDINGS, find
from sandbox.launch_counts import WrongCount
from sandbox.mend import mended, rules
from sandbox.spans import Spans
from sandbox.types import Failure, Finding, Status
from tests.adversarial.layers import HONEST

TL, LIBDEVICE = "triton.language", "triton.language.extra.libdevice"
HELPERS, KERNELS = "torch._inductor.runtime.triton_helpers", "torch._inductor.select_algorithm.extern_kernels"


def names(text: str, **modules: str) -> Mapping[str, str]:
    return dict.fromkeys(text.split(), "") | modules


TABLE = {
    "triton": names("jit cdiv autotune", language=TL),
    TL: names(
        "load store arange program_id abs exp sigmoid where maximum minimum max min sum clamp full debug_barrier fdiv "
        "constexpr float32 bfloat16 int1 cumsum",
        math=f"{TL}.math",
        extra=f"{TL}.extra",
    ),
    f"{TL}.math": names("exp sqrt"),
    f"{TL}.extra": names("cuda", libdevice=LIBDEVICE),
    LIBDEVICE: names("tanh pow log1p exp nearbyint"),
    HELPERS: names("maximum", libdevice=LIBDEVICE, math=f"{TL}.math"),
    "torch._inductor.select_algorithm": names("", extern_kernels=KERNELS),
    KERNELS: names("mm addmm"),
}
IMPORTS = """import torch
import torch.nn as nn
import triton
import triton.language as tl
"""
INDUCTOR = "from torch._inductor.runtime.triton_helpers import libdevice, math as tl_math\n"


def in_kernel(line: str, *, imports: str = IMPORTS) -> str:
    return f"{imports}\n\n@triton.jit\ndef kernel(x, y, BLOCK: tl.constexpr):\n    {line}\n"


def fixed(source: str) -> str:
    return mended(source, find(source, table=TABLE))


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("z = libdevice.sigmoid(x)", "z = tl.sigmoid(x)"),
        ("z = tl.tanh(x + tl.tanh(y))", "z = libdevice.tanh(x + libdevice.tanh(y))"),
        ("z = tl_math.where(x > y, x, y)", "z = tl.where(x > y, x, y)"),
        ("z = tl.math.pow(x, 2.0)", "z = libdevice.pow(x, 2.0)"),
        ("z = tl.libdevice.exp(x)", "z = libdevice.exp(x)"),
        ("z = tl.libdevice.relu(x)", "z = tl.maximum(x, 0.0)"),
        ("z = tl.math.libdevice.sigmoid(x)", "z = tl.sigmoid(x)"),
        ("z = libdevice.relu(x * 2,)", "z = tl.maximum(x * 2, 0.0,)"),
        ("z = libdevice.relu(( x * (y) ) )", "z = tl.maximum(( x * (y) ), 0.0 )"),
        ("z = tl.relu((x), )", "z = tl.maximum((x), 0.0, )"),
        ("z = tl.relu(tl.recip(x))", "z = tl.maximum((1.0 / (x)), 0.0)"),
        (
            "z = tl.relu(tl.silu(tl.relu(y)) + tl.silu(x))",
            "z = tl.maximum(tl.silu(tl.maximum(y, 0.0)) + (x * tl.sigmoid(x)), 0.0)",
        ),
        ("z = libdevice.max(x, y)", "z = tl.maximum(x, y)"),
        ("z = tl_math.min(x, 0.0)", "z = tl.minimum(x, 0.0)"),
        ("z = tl_math.max(x, axis=0)", "z = tl.max(x, axis=0)"),
        ("z = tl.amax(x)", "z = tl.max(x)"),
        ("z = tl.clip(x, 0.0, 1.0)", "z = tl.clamp(x, 0.0, 1.0)"),
        ("z = y / tl.silu(x)", "z = y / (x * tl.sigmoid(x))"),
        ("z = y * tl.math.recip(x + 1)", "z = y * (1.0 / (x + 1))"),
        ("z = tl.ones((BLOCK), tl.float32)", "z = tl.full((BLOCK), 1, tl.float32)"),
        ("z = tl.ones((BLOCK,), tl.float32)", "z = tl.full((BLOCK,), 1, tl.float32)"),
        ("z = x.to(tl.bf16)", "z = x.to(tl.bfloat16)"),
        ("tl.syncthreads()", "tl.debug_barrier()"),
        ("z = tl.round(x)", "z = libdevice.nearbyint(x)"),
        ("'ä'; z = tl.tanh(x)", "'ä'; z = libdevice.tanh(x)"),
    ],
)
def test_invented_names_become_real_ones(line: str, right: str) -> None:
    source = in_kernel(line, imports=IMPORTS + INDUCTOR)
    assert fixed(source) == source.replace(line, right)


@pytest.mark.parametrize(
    "line",
    [
        "z = tl.gelu(x)",  # exact or by tanh: nobody knows
        "z = libdevice.max(x, 0)",  # an axis or a value
        "z = tl.silu(x + 1)",  # would be computed twice
        "z = tl.tanh",  # not called
        "z = tl.thread_id(0)",
        "z = extern_kernels.softmax(x)",
    ],
)
def test_where_nothing_is_sure_the_name_is_told_and_the_text_stays(line: str) -> None:
    extern = "from torch._inductor.select_algorithm import extern_kernels\n"
    source = in_kernel(line, imports=IMPORTS + INDUCTOR + extern)
    (found,) = find(source, table=TABLE)
    assert (found.rule, found.instead) == ("unknown_name", None)
    assert found.message.startswith(f"line {source.count(chr(10))}: ")
    assert fixed(source) == source


def test_a_replacement_brings_its_import() -> None:
    source = '"""Words."""\nfrom __future__ import annotations\n' + in_kernel("z = tl.tanh(x) + tl.math.pow(x, y)")
    line = "from triton.language.extra import libdevice\n"
    right = source.replace("tl.tanh", "libdevice.tanh").replace("tl.math.pow", "libdevice.pow")
    assert fixed(source) == right.replace("import torch\n", f"{line}import torch\n", 1)


def test_an_import_takes_no_name_that_is_taken() -> None:
    source = in_kernel("z = tl.tanh(x)", imports=f"{IMPORTS}libdevice = tl.math\n")
    assert "from triton.language.extra import libdevice as triton_libdevice\n" in fixed(source)
    assert "z = triton_libdevice.tanh(x)" in fixed(source)


@pytest.mark.parametrize(
    "source",
    [
        in_kernel("z = tl.exp(x)"),
        in_kernel("tl = x; z = tl.tanh(x)"),  # a local name
        in_kernel("z = x.tanh() + y.tl.tanh"),
        in_kernel("z = tl.tanh(x)", imports=f"{IMPORTS}tl = __import__('mine')\n"),  # bound twice
        in_kernel("z = tl.tanh(x)", imports=f"{IMPORTS}tl.tanh = tl.exp\n"),  # set by the candidate itself
        in_kernel(
            "z = tl.tanh(x)", imports="from mine import tl\nimport triton\nimport torch\nimport torch.nn as nn\n"
        ),
        IMPORTS + "tanh = tl.tanh if hasattr(tl, 'tanh') else None\n",
        IMPORTS + "if hasattr(tl, 'tanh'):\n    f = tl.tanh\n",
        IMPORTS + "try:\n    f = tl.tanh\nexcept AttributeError:\n    f = None\n",
        "try:\n    from triton.language import tanh\nexcept ImportError:\n    tanh = None\n",
        IMPORTS + "def f(tl):\n    return tl.tanh\n",
        IMPORTS + "g = lambda tl: tl.tanh\n",
        IMPORTS + "x = triton.other.thing\n".replace("triton.other", "torch.other"),
    ],
)
def test_what_may_be_right_is_left_alone(source: str) -> None:
    assert find(source, table=TABLE) == ()


def test_a_name_that_cannot_be_imported_is_told() -> None:
    (found,) = find("from triton.language import tanh\n", table=TABLE)
    assert (found.found, found.instead) == ("tanh", None)


def test_names_used_and_never_imported_are_imported() -> None:
    source = in_kernel("z = tl.exp(x) * math.pi").replace("import triton.language as tl\n", "")
    assert fixed(source) == f"import math\nimport triton.language as tl\n{source}"


def test_what_inductor_binds_by_assignment_comes_after_the_imports() -> None:
    source = "import torch\n\ndef call(x):\n    assert_size_stride(x, (1,), (1,))\n"
    line = "assert_size_stride = torch._C._dynamo.guards.assert_size_stride"
    assert fixed(source) == source.replace("import torch\n", f"import torch\n{line}\n")


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn import *\nclass A(nn.Module): pass\n",
        "import torch.nn as nn\nclass A(nn.Module): pass\n",
        "for math in [1]:\n    print(math)\n",
        "def f(math):\n    return math.pi\n",
        "def f():\n    global math\n    import math\ndef g():\n    return math.pi\n",
        "[math for math in (1, 2)]\n",
        "x = unheard_of\n",  # nobody knows where it is from
    ],
)
def test_what_is_bound_or_unknown_is_not_imported(source: str) -> None:
    assert find(source, table=TABLE) == ()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("x = torch.empty(3, device='cuda:1')", "x = torch.empty(3, device='cuda:0')"),
        ('d = torch.device("cuda", 3)', 'd = torch.device("cuda", 0)'),
        ("torch.cuda.set_device(1)", "torch.cuda.set_device(0)"),
        ("with torch.cuda._DeviceGuard(1): pass", "with torch.cuda._DeviceGuard(0): pass"),
        ("x = torch.ones(2, 1, device=2)", "x = torch.ones(2, 1, device=0)"),
        ("x = f'cuda:1{2}' + 'cuda:12x' + 'not cuda:1'", None),
        ("torch.cuda.set_device(0)", None),
        ("torch.device('cuda')", None),
    ],
)
def test_there_is_one_gpu(wrong: str, right: str | None) -> None:
    assert fixed(f"import torch\n{wrong}\n") == f"import torch\n{right or wrong}\n"


CALL = """import torch
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
def call(a, b):
    assert_size_stride(a, (4, 8), (8, 1))
    assert_size_stride(b,
        (4,), (1,))
"""


def test_asserted_sizes_become_those_that_were_seen() -> None:
    found = find(CALL, table=TABLE, sizes=[(4, (6, 8), (8, 1)), (5, (6,), (2,))])
    assert mended(CALL, found) == CALL.replace("(4, 8)", "(6, 8)").replace("(4,), (1,)", "(6,), (2,)")
    assert found[0].message == "line 4: a has size (6, 8), not (4, 8)"


def test_sizes_that_contradict_or_fit_no_assertion_are_nothing() -> None:
    sizes = [(4, (6, 8), (8, 1)), (4, (7, 8), (8, 1)), (3, (1,), (1,)), (400, (1,), (1,))]
    assert find(CALL, table=TABLE, sizes=sizes) == ()


POINTWISE = """import triton
import triton.language as tl
@triton.jit
def poi(in_ptr0, out_ptr0, xnumel, XBLOCK: tl.constexpr):
    xnumel = 256
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:]
    {mask}
    x0 = xindex
    tmp0 = tl.load(in_ptr0 + x0{load})
    tl.store(out_ptr0 + x0, tmp0{store})
def call(x, out, grid, n=256):
    count = 256
    poi[grid(256)](x, out, count, XBLOCK=128, num_warps=4)
"""
MASKED = (", xmask", ", xmask")
COUNT = WrongCount(kernel="poi", parameter="xnumel", counted=256, wanted=300, block=128)


def with_count(source: str, wrong: WrongCount) -> str:
    return mended(source, count_findings(ast.parse(source), Spans(source), wrong))


def right_number(source: str, number: int = 300) -> str:
    text = source.replace("grid(256)", f"grid({number})").replace("count = 256", f"count = {number}")
    return text.replace("xnumel = 256", f"xnumel = {number}")


def test_the_right_number_goes_wherever_the_wrong_one_is_counted() -> None:
    source = POINTWISE.format(mask="xmask = xindex < xnumel", load=", xmask", store=", xmask")
    assert with_count(source, COUNT) == right_number(source), "and the default of `n`, which counts nothing, stays"


@pytest.mark.parametrize(
    ("mask", "load", "store", "restored"),
    [
        ("pass", ", None", ", None", ("pass", ", in_range", ", in_range")),
        ("pass", "", "", ("pass", ", in_range", ", in_range")),
        ("xmask = tl.full([XBLOCK], True, tl.int1)", *MASKED, ("xmask = xindex < xnumel", *MASKED)),
    ],
)
def test_a_mask_left_out_comes_back_where_the_block_does_not_divide(
    mask: str, load: str, store: str, restored: tuple[str, str, str]
) -> None:
    source = POINTWISE.format(mask=mask, load=load, store=store)
    new_mask, new_load, new_store = restored
    right = right_number(POINTWISE.format(mask=new_mask, load=new_load, store=new_store))
    if mask == "pass":
        right = right.replace("XBLOCK)[:]\n", "XBLOCK)[:]\n    in_range = xindex < xnumel\n")
    assert with_count(source, COUNT) == right
    assert with_count(source, replace(COUNT, wanted=512)) == right_number(source, 512), "the block divides 512"


def test_without_an_index_to_mask_by_or_one_size_written_the_count_is_only_told() -> None:
    source = POINTWISE.format(mask="pass", load=", None", store=", None")
    two = source.replace("x0 = xindex", "x0 = xindex + tl.arange(0, XBLOCK)")
    for text, wrong in ((two, COUNT), (source, replace(COUNT, wanted=None))):
        (found,) = count_findings(ast.parse(text), Spans(text), wrong)
        assert (found.found, found.instead) == ("poi", None)
        assert "counts 256 elements" in found.message


def finding(start: int, end: int, found: str, instead: str | None, rule: str = "r") -> Finding:
    return Finding(rule=rule, start=start, end=end, found=found, instead=instead, message="m")


def test_edits_do_not_overlap_repeat_or_miss() -> None:
    edits = [
        finding(4, 5, "e", "E", "b"),
        finding(0, 3, "abc", "A", "a"),
        finding(1, 2, "b", "lost"),
        finding(5, 5, "", "!"),
        finding(5, 5, "", "!", "again"),
        finding(3, 4, "x", "never"),
        finding(3, 4, "d", None, "unsure"),
    ]
    assert mended("abcdef", edits) == "AdE!f"
    assert "unsure" not in rules(edits)


def test_feedback_tells_each_finding_once_as_far_as_there_is_room() -> None:
    failure = Failure(error_class="AttributeError", message="module 'triton.language' has no attribute 'tanh'")
    messages = [f"line {n}: {'word ' * 20}{n // 2}" for n in range(40)]
    found = [replace(finding(0, 0, "", ""), message=message) for message in messages]
    lines = render_feedback(Status.COMPILE_ERROR, failure, found).splitlines()
    assert lines[2:5] == messages[:3]
    assert len("\n".join(lines)) <= MAX_FEEDBACK_CHARACTERS
    assert not any(line.startswith("Hint") for line in lines), "a finding says more"


def test_more_findings_than_a_verdict_carries_are_none() -> None:
    """Some of them would leave the text half mended."""
    line = "; ".join(["z = tl.relu(x)"] * MAX_FINDINGS)
    assert find(in_kernel(line), table=TABLE) == ()


@pytest.mark.parametrize(
    "source",
    [
        "import triton.language as tl\nx = " + "1 + " * 2_000 + "tl.tanh\n",
        "import triton.language as tl\nx = tl" + ".f()" * 1_000 + "\n",
        "import triton.language as tl\ntl.tanh\ndef f():\n    x = 1\n    global x\n",
        "import triton.language as tl\n" + "tl.tanh; 'cuda:1'; " * 20_000 + "\n",
    ],
    ids=["deep", "chained", "no program", "long"],
)
def test_texts_made_to_be_hard_to_search_are_let_go(source: str) -> None:
    assert find(source, table=TABLE) == ()


@given(st.text(alphabet="tl.anhx()=+ \n'#[]{}:,ä1", max_size=60))
def test_any_text_is_searched_without_harm(text: str) -> None:
    source = in_kernel(text)
    assert isinstance(mended(source, find(source, table=TABLE)), str)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_findings_stand_where_the_parser_sees_them_whatever_ends_a_line(end: str) -> None:
    source = in_kernel("y = tl.tanh(x)").replace("\n", end)
    (found,) = [finding for finding in find(source, table=TABLE) if finding.found]
    assert (found.found, source[found.start : found.end]) == ("tl.tanh", "tl.tanh")


def test_a_number_too_long_to_write_out_is_nothing_to_tell_of() -> None:
    source = f"assert_size_stride(x, (0x{'f' * 5000},), (1,))\n"
    assert find(source, table=TABLE, sizes=((1, (4,), (1,)),)) == ()


HELPED = (
    IMPORTS
    + """

@triton.jit
def kernel(x, n):
    helper(x)


def launch(x, weight, *, eps=1e-5):
    return kernel[(1,)](x, weight)


def get_inputs():
    return []


class ModelNew(nn.Module):
    def forward(self, x):
        return CALL
"""
)


@pytest.mark.parametrize("call", ["run(x, self.w)", "run(x, weight=self.w)", "run(run(x, 1), 2, eps=1e-6)"])
def test_a_function_called_by_another_name_is_called_by_its_own(call: str) -> None:
    source = HELPED.replace("CALL", call)
    assert fixed(source) == source.replace("run(", "launch(")
    assert {found.rule for found in find(source, table=TABLE)} == {"undefined_helper"}


@pytest.mark.parametrize(
    "call",
    [
        "launch(x, self.w)",  # it is defined
        "run(x)",  # another number of arguments
        "run(x, self.w, 1)",
        "run(x, w=self.w)",  # another name of one
        "run(*x)",  # who knows how many
        "run(x, 1) + go(x, 2)",  # either may be meant
        "run(launch(x, 1), 2)",  # the one function is called already
        "run()",  # what a problem's file has is called from outside
        "self.run(x, self.w)",
    ],
)
def test_a_function_is_called_by_another_name_where_that_is_not_sure(call: str) -> None:
    source = HELPED.replace("CALL", call)
    assert [found for found in find(source, table=TABLE) if found.rule == "undefined_helper"] == []


def test_a_function_that_nothing_else_calls_is_not_made_to_call_itself() -> None:
    source = "def launch(x):\n    return run(x)\n\n\nclass ModelNew:\n    def forward(self, x):\n        return x\n"
    assert fixed(source) == source
    assert fixed(source.replace("return x\n", "return run(x)\n")).count("launch(x)") == 3


def test_two_functions_that_fit_are_neither() -> None:
    source = HELPED.replace("CALL", "run(x, 1)") + "\n\ndef other(a, b):\n    return a\n"
    assert fixed(source) == source


@pytest.mark.parametrize("path", HONEST, ids=lambda path: path.stem)
def test_no_honest_program_calls_an_undefined_helper(path: Path) -> None:
    assert "undefined_helper" not in rules(find(path.read_text(encoding="utf-8"), table=TABLE))
