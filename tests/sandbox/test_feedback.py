"""What the model is told: the class, its own line, one hint; short, harmless and the same for the same fault."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.feedback import HINTS, LEADS, MAX_FEEDBACK_CHARACTERS, PATTERN_WORDS, STATUS_HINTS, render_feedback
from sandbox.types import Failure, Mismatch, Pattern, Status


def error(error_class: str, message: str, *, source_line: str | None = None) -> Failure:
    return Failure(error_class=error_class, message=message, line_number=7, source_line=source_line)


def mismatch(pattern: Pattern | None, *, expected: float = 2.0, got: float = 3.0, share: float = 0.25) -> Failure:
    found = Mismatch(
        output="output[1]", share_wrong=share, first_bad_index=(3, 0), expected=expected, got=got, pattern=pattern
    )
    return Failure(error_class="wrong_values", message="output[1]: 12 of 48 values are wrong", mismatch=found)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_says_what_happened_and_stays_short(status: Status) -> None:
    failure = error("SomeError", "first line\n" + "word " * 2000 + "\n", source_line="x = " + "y + " * 500)
    text = render_feedback(status, failure)
    assert text.startswith(LEADS[status])
    assert len(text) <= MAX_FEEDBACK_CHARACTERS
    assert ("SomeError at line 7" in text) == (status is not Status.PASSED)


def test_the_longest_hints_are_never_cut() -> None:
    room = MAX_FEEDBACK_CHARACTERS - max(len(lead) for lead in LEADS.values()) - 60 - 220 - 160 - 40
    advice = (
        [advice for _, advice in HINTS] + list(STATUS_HINTS.values()) + [words for _, words in PATTERN_WORDS.values()]
    )
    assert max(map(len, advice)) <= room


def test_an_error_shows_its_own_line_the_end_of_the_message_and_a_hint() -> None:
    failure = error(
        "CompilationError",
        "at 9:8:\n    t = tl.tanh(x)\n        ^\nAttributeError(\"module 'triton.language' has no attribute 'tanh'\")",
        source_line="t = tl.tanh(x)",
    )
    assert render_feedback(Status.COMPILE_ERROR, failure).splitlines() == [
        "Triton could not compile a kernel.",
        "CompilationError at line 7: t = tl.tanh(x)",
        "AttributeError: module 'triton.language' has no attribute 'tanh'",
        "Hint: There is no tl.tanh: write 2 * tl.sigmoid(2 * x) - 1, or libdevice.tanh(x) after "
        "`from triton.language.extra import libdevice`.",
    ]


# Messages as Triton 3.6 to 3.7 and PyTorch 2.11 to 2.13 write them.
@pytest.mark.parametrize(
    ("status", "error_class", "message", "advice"),
    [
        ("compile_error", "AttributeError", "module 'triton.language.math' has no attribute 'tanh'", "no tl.tanh"),
        (
            "compile_error",
            "AttributeError",
            "module 'triton.language.extra.libdevice' has no attribute 'sigmoid'",
            "tl.sigmoid",
        ),
        (
            "compile_error",
            "AttributeError",
            "module 'triton.language.extra.libdevice' has no attribute 'relu'",
            "tl.maximum",
        ),
        (
            "compile_error",
            "AttributeError",
            "module 'triton.language.extra.libdevice' has no attribute 'max'",
            "tl.maximum",
        ),
        (
            "compile_error",
            "AttributeError",
            "module 'triton.language.extra.libdevice' has no attribute 'clamp'",
            "tl.minimum",
        ),
        (
            "compile_error",
            "AttributeError",
            "module 'triton.language' has no attribute 'libdevice'",
            "triton.language.extra",
        ),
        ("compile_error", "AttributeError", "module 'triton.language.math' has no attribute 'pow'", "libdevice"),
        ("compile_error", "AttributeError", "module 'triton.language' has no attribute 'cumulative_sum'", "tl.cumsum"),
        ("compile_error", "AttributeError", "module 'triton.language' has no attribute 'unfold'", "no such function"),
        ("compile_error", "CompilationError", "arange's range must be a power of 2", "next_power_of_2"),
        ("compile_error", "CompilationError", "arange's arguments must be of type tl.constexpr", "BLOCK: tl.constexpr"),
        ("compile_error", "CompilationError", "Both operands must be same dtype. Got fp32 and fp16", ".to(a.dtype)"),
        (
            "compile_error",
            "CompilationError",
            "Mask argument cannot be block type if pointer argument is not a block",
            "arange",
        ),
        (
            "compile_error",
            "CompilationError",
            "Cannot make_shape_compatible: incompatible dimensions at index 0",
            "[:, None]",
        ),
        ("compile_error", "UnsupportedLanguageConstruct", "Boolean value of Tensor is ambiguous", "tl.where"),
        (
            "compile_error",
            "NameError",
            "Cannot access global variable SCALE from within @jit'ed function: no tl.constexpr",
            "argument",
        ),
        ("trace_error", "ImportError", "cannot import name 'grid' from 'torch._inductor.runtime'", "triton.cdiv"),
        ("trace_error", "ModuleNotFoundError", "No module named 'triton.ops'", "triton.ops was removed"),
        (
            "trace_error",
            "AttributeError",
            "'KernelNamespace' object has no attribute 'cumsum'",
            "extern_kernels has only",
        ),
        ("trace_error", "AssertionError", "expected stride (200, 1), got (1, 150) at dimension 0", "asserted"),
        (
            "trace_error",
            "TypeError",
            "ModelNew.__init__() takes 1 positional argument but 2 were given",
            "what Model takes",
        ),
        (
            "trace_error",
            "ValueError",
            "Pointer argument (at 1) cannot be accessed from Triton (cpu tensor?)",
            "x.device",
        ),
        ("trace_error", "NameError", "name 'math' is not defined", "import that name"),
        ("launch_error", "OutOfResources", "out of resource: shared memory, Required: 300000", "smaller blocks"),
        ("untraceable", "Untraceable", "host code reads tensor values through numpy", "tl.where"),
        (
            "untraceable",
            "UnsupportedArgument",
            "kernel parameter d is a tuple",
            "arguments of their own",
        ),
        (
            "trace_error",
            "DescriptorError",
            "descriptor x_desc of shape [41, 32] reaches byte 5248 of a buffer of 5120",
            "TensorDescriptor.from_tensor",
        ),
        ("untraceable", "Untraceable", "torch.manual_seed cannot be traced", "Leave that out"),
        ("illegal_access", "IllegalAccess", "a kernel accesses memory outside its tensors", "mask"),
        ("rejected", "Policy", "a Triton kernel is launched, but no output depends on it", "@triton.jit"),
        ("rejected", "SyntaxError", "'(' was never closed", "whole file"),
        ("rejected", "Aliasing", "an output shares its memory with an input", "empty_like"),
        ("wrong_shape", "wrong_shape", "output has shape (50, 1), not (50,)", "same shape"),
        ("wrong_dtype", "wrong_dtype", "output has dtype float16, not float32", "x.dtype"),
        ("no_kernel", "NoCode", "the answer holds no Python code", "class ModelNew"),
    ],
)
def test_usual_mistakes_get_their_hint(status: str, error_class: str, message: str, advice: str) -> None:
    text = render_feedback(Status(status), error(error_class, message))
    assert message in text
    assert advice in text.rpartition("\nHint: ")[2]


@pytest.mark.parametrize("pattern", [*Pattern, None])
def test_wrong_values_say_how_much_where_and_what_it_looks_like(pattern: Pattern | None) -> None:
    text = render_feedback(Status.WRONG_VALUES, mismatch(pattern))
    assert "output[1]: 25.0% of the elements are wrong. First at [3, 0]: expected 2, got 3." in text
    if pattern is not None:
        words, hint = PATTERN_WORDS[pattern]
        assert words.removesuffix(".") in text
        assert text.endswith(f"Hint: {hint}")


def test_a_constant_ratio_is_told_as_a_number() -> None:
    assert "(got / expected = 1.5)" in render_feedback(Status.WRONG_VALUES, mismatch(Pattern.CONSTANT_RATIO))
    zero = mismatch(Pattern.CONSTANT_RATIO, expected=0.0)
    assert "off by the same factor." in render_feedback(Status.WRONG_VALUES, zero)


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "100%"), (0.99999, "99.9%"), (1e-9, "less than 0.1%"), (0.5, "50.0%")]
)
def test_shares_are_not_rounded_to_none_or_all(share: float, words: str) -> None:
    failure = mismatch(None, share=share, expected=math.inf, got=math.nan)
    text = render_feedback(Status.WRONG_VALUES, failure)
    assert f"{words} of the elements" in text
    assert "expected inf, got nan" in text


def test_an_unchecked_program_gets_no_advice() -> None:
    assert "Hint" not in render_feedback(Status.UNVERIFIED, error("TooLarge", "the grid has a million programs"))


def test_paths_and_addresses_are_left_out() -> None:
    failure = error("OSError", "cannot open /scratch/run-17/x/candidate.py for <object at 0x7f12345678>")
    text = render_feedback(Status.TRACE_ERROR, failure)
    assert "cannot open candidate.py for <object at 0x...>" in text


@given(st.sampled_from(list(Status)), st.text(), st.text(), st.text(), st.integers())
def test_whatever_a_program_raises_is_harmless_in_a_prompt(
    status: Status, error_class: str, message: str, source_line: str, line_number: int
) -> None:
    failure = Failure(error_class=error_class, message=message, line_number=line_number, source_line=source_line)
    text = render_feedback(status, failure)
    assert text.isascii()
    assert "```" not in text
    assert len(text) <= MAX_FEEDBACK_CHARACTERS
    assert text.count("\n") <= 3
    assert all(c == "\n" or c.isprintable() for c in text)
