"""What a kernel's dots compute in, read off the compiler's own output, and what that makes of a whole plan.

`dot_kinds` runs where kernels are compiled from their text; the rest reads a plan whose kernels carry what it found.
Sees dots and tensor core instructions only: a cast before a dot, or a sum in half precision, is for the comparison of
values to find.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sandbox.plan import Kernel, Plan

# What a dot can be besides plain IEEE arithmetic of its operands' type with a float32 (or wider) sum, and the precision
# that each amounts to. Three TF32 products or six bfloat16 ones give float32's accuracy (within a few units in the last
# place), three bfloat16 ones only 16 bits. FP8 tensor cores of sm_90 keep about 14 bits of a sum unless told otherwise.
PRECISION_OF: Mapping[str, str] = {
    "tf32x3": "ieee",
    "bf16x6": "ieee",
    "tf32": "tf32",
    "bf16x3": "tf32",
    "fp16_accumulate": "fp16_accumulate",
    "fp8_imprecise": "fp16_accumulate",
}
# From the highest to the lowest.
PRECISIONS = ("ieee", "tf32", "fp16_accumulate")

_DOT = re.compile(r"\btt\.dot (?P<head>[^\n]*?) : tensor<(?P<a>[^>]*)> \* tensor<(?P<b>[^>]*)> -> tensor<(?P<c>[^>]*)>")
_INPUT = re.compile(r"inputPrecision = (\w+)")
_IMPRECISE = re.compile(r"maxNumImpreciseAcc = ([1-9]\d*)")
# The types of a tensor core instruction: the result first, then the operands (PTX ISA, mma and wgmma).
_ASSEMBLY = re.compile(r'\btt\.elementwise_inline_asm "(?P<text>(?:[^"\\]|\\.)*)"')
# ptxas takes comments and blanks within an instruction.
_COMMENT, _DOT_WITH_BLANKS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL), re.compile(r"\s*\.\s*")
_MMA = re.compile(r"\b(?:wg)?mma(?:_async)?\.[\w.:]*?m\d+n\d+k\d+(?:\.(?:row|col))*\.(?P<result>\w+)\.(?P<operand>\w+)")


def dot_kinds(ttir: str, ptx: str) -> tuple[str, ...]:
    """Which of `PRECISION_OF` a kernel's dots are. `ttir` says what was asked for; `ptx` shows instructions that a text
    brought along as assembly as well."""
    found: set[str] = set()
    for dot in _DOT.finditer(ttir):
        operand, result = (dot[part].rpartition("x")[2] for part in ("a", "c"))
        asked = _INPUT.search(dot["head"])
        if operand == "f32" and asked is not None:  # of operands of other types it says nothing
            found.add(asked[1] if asked[1] in PRECISION_OF else "tf32")
        if result == "f16":
            found.add("fp16_accumulate")
        elif operand.startswith("f8") and _IMPRECISE.search(dot["head"]):
            found.add("fp8_imprecise")
    explained = bool(found & {"tf32", "tf32x3"}) and not _may_hold_mma(ttir)
    for instruction in _MMA.finditer(_DOT_WITH_BLANKS.sub(".", _COMMENT.sub(" ", ptx))):
        if instruction["operand"] == "tf32" and not explained:
            found.add("tf32")
        if instruction["result"] == "f16":
            found.add("fp16_accumulate")
    return tuple(sorted(found))


def uses_assembly(ttir: str) -> bool:
    """Whether a text brings its own PTX along."""
    return _ASSEMBLY.search(ttir) is not None


def _may_hold_mma(ttir: str) -> bool:
    """Whether that PTX has tensor core instructions of its own, or text that LLVM puts together."""
    texts = (_COMMENT.sub("", assembly["text"]).lower() for assembly in _ASSEMBLY.finditer(ttir))
    return any("mma" in text or "$(" in text or "${" in text for text in texts)


def kernel_precision(kernel: Kernel) -> str:
    """The lowest precision among a kernel's dots: "ieee", "tf32" or "fp16_accumulate"."""
    return _lowest(PRECISION_OF[kind] for kind in kernel.dots)


def plan_precision(plan: Plan) -> str:
    """The lowest precision among a plan's kernels: "ieee", "tf32" or "fp16_accumulate"."""
    return _lowest(map(kernel_precision, plan.kernels))


def _lowest(precisions: Iterable[str]) -> str:
    return max(precisions, key=PRECISIONS.index, default="ieee")


_ADVICE: Mapping[str, str] = {
    "tf32": 'TF32; write tl.dot(..., input_precision="ieee")',
    "bf16x3": 'three bfloat16 products; write tl.dot(..., input_precision="ieee")',
    "fp16_accumulate": "a float16 sum; leave out out_dtype=tl.float16 and add to a float32 tensor",
    "fp8_imprecise": "an imprecise FP8 sum; write tl.dot(..., max_num_imprecise_acc=0)",
}


def refused_precision(plan: Plan, allowed: tuple[str, ...]) -> str | None:
    """Why a run that allows the precisions `allowed` (and "ieee" always) refuses the plan, or None."""
    for kernel in plan.kernels:
        for kind in kernel.dots:
            if PRECISION_OF[kind] not in ("ieee", *allowed):
                names = ", ".join(dict.fromkeys(("ieee", *allowed)))
                return f"kernel {kernel.name} computes its dots in {_ADVICE[kind]} (this run allows {names})"
    return None
