"""Tells a model what was wrong with its program, in at most 250 tokens.

Knows nothing of how the fault was found: a pure function of status and failure. What comes out goes into a prompt,
so it holds no paths, addresses or control characters, and is the same for the same fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandbox.types import Failure, Finding, Mismatch, Pattern, Status

MAX_FEEDBACK_CHARACTERS = 800  # 250 tokens at 3.2 characters each, which is low for English and code
MAX_SOURCE_LINE_CHARACTERS = 160
MAX_MESSAGE_CHARACTERS = 220

LEADS: dict[Status, str] = {
    Status.NO_KERNEL: "The answer holds no program to run.",
    Status.REJECTED: "The program was refused.",
    Status.TRACE_ERROR: "Running the Python code of ModelNew failed.",
    Status.UNTRACEABLE: "The host code does what cannot be recorded, such as reading the values in a tensor.",
    Status.COMPILE_ERROR: "Triton could not compile a kernel.",
    Status.LAUNCH_ERROR: "A kernel compiled, but could not be launched.",
    Status.ILLEGAL_ACCESS: "A kernel reads or writes memory outside its tensors.",
    Status.TIMEOUT: "The program took too long and was stopped.",
    Status.OUT_OF_MEMORY: "The program needs more memory than there is.",
    Status.WRONG_SHAPE: "The program runs, but its output has the wrong shape or structure.",
    Status.WRONG_DTYPE: "The program runs, but its output has the wrong dtype.",
    Status.WRONG_VALUES: "The program runs, but its output is wrong.",
    Status.UNVERIFIED: "The program could not be checked.",
    Status.PASSED: "The program is correct.",
}

# What says better than its status what happened, by the class of the error.
LEADS_BY_CLASS: dict[str, str] = {
    "UnsupportedArgument": "A kernel is given what is not supported: a tuple, or a descriptor of an unusual kind.",
    "DescriptorError": "A descriptor does not fit its tensor.",
}

STATUS_HINTS: dict[Status, str] = {
    Status.NO_KERNEL: "Answer with the whole Python file in one code block; it must define class ModelNew(nn.Module).",
    Status.REJECTED: "Compute the output in a @triton.jit kernel that ModelNew.forward launches.",
    Status.UNTRACEABLE: "Use shapes and strides only; move every decision about values into the kernel with tl.where.",
    Status.LAUNCH_ERROR: "Check the grid and the block sizes.",
    Status.ILLEGAL_ACCESS: "Give every tl.load and tl.store a mask such as offsets < n_elements; check each index.",
    Status.TIMEOUT: "Loop inside kernels, not on the host, and make sure that every loop ends.",
    Status.OUT_OF_MEMORY: "Allocate nothing but the outputs and small buffers.",
    Status.WRONG_SHAPE: "Return what Model.forward returns: the same number of tensors, each of the same shape.",
    Status.WRONG_DTYPE: "Allocate each output in the dtype that Model.forward returns, usually x.dtype.",
    Status.WRONG_VALUES: "Compare each step with Model.forward; `other=` of a masked load must not change a reduction.",
}

PATTERN_WORDS: dict[Pattern, tuple[str, str]] = {
    Pattern.ZEROS: (
        "The wrong values are all zero.",
        "Check that the store is reached and that the grid covers the output.",
    ),
    Pattern.NAN: (
        "The wrong values are NaN.",
        "Look for 0/0, for inf - inf in rows that are masked out as a whole, and for masked loads without `other=`.",
    ),
    Pattern.TAIL_ONLY: (
        "Only the end of the output is wrong.",
        "Round the grid up with triton.cdiv, and take sizes from the tensors instead of writing them as numbers.",
    ),
    Pattern.CONSTANT_RATIO: (
        "All values are off by the same factor.",
        "Check constants and divisors: divide by the true number of elements, not by the block size.",
    ),
    Pattern.TRANSPOSED: (
        "The values are right but in transposed places.",
        "Use the strides of each tensor in the index formula, or call .contiguous() first.",
    ),
    Pattern.RUN_TO_RUN: (
        "The values differ from run to run.",
        "Two programs write the same place, memory from torch.empty is read before it is written, or a call leaves "
        "something in a weight or buffer that the next one takes up.",
    ),
    Pattern.UNWRITTEN: (
        "The wrong values were never written.",
        "The grid, a size written as a number, or the store's mask leaves part of the output out.",
    ),
}


_NO_ATTRIBUTE = "(?:no attribute|cannot import name) '{}'"

# (pattern over "error class: message", advice). The first that matches is given: the particular before the general.
HINTS: tuple[tuple[str, str], ...] = (
    ("^Precision:", 'Keep operands and sums in float32, and say so: tl.dot(a, b, acc, input_precision="ieee").'),
    (
        "^UnsupportedArgument:",
        "Pass what a tuple holds as arguments of their own, and in place of such a descriptor a "
        "TensorDescriptor.from_tensor(x, block_shape), or the tensor.",
    ),
    (
        "^DescriptorError:",
        "Make it with TensorDescriptor.from_tensor(x, block_shape): x's own shape and strides, each stride but the "
        "last (which is 1) a multiple of 16 bytes. Tiles may reach beyond the shape, the shape not beyond the tensor.",
    ),
    ("^Kernel(?:Text|Names):", "Write the kernel with triton.language alone, and what it calls in the same file."),
    (
        _NO_ATTRIBUTE.format("tanh"),
        "There is no tl.tanh: write 2 * tl.sigmoid(2 * x) - 1, or libdevice.tanh(x) after "
        "`from triton.language.extra import libdevice`.",
    ),
    (_NO_ATTRIBUTE.format("sigmoid"), "Use tl.sigmoid(x)."),
    (_NO_ATTRIBUTE.format("relu6?"), "Use tl.maximum(x, 0.0)."),
    (_NO_ATTRIBUTE.format("where"), "Use tl.where(condition, a, b)."),
    (
        _NO_ATTRIBUTE.format("(?:gelu|silu|swish|softplus|s?elu|leaky_relu|mish|hard(?:tanh|swish|sigmoid)|softsign)"),
        "Write the activation out with tl.exp, tl.sigmoid, tl.erf, tl.where and tl.maximum.",
    ),
    (_NO_ATTRIBUTE.format("(?:clamp|clip)"), "Use tl.minimum(tl.maximum(x, low), high)."),
    (
        _NO_ATTRIBUTE.format("(?:max|min|amax|amin|reduce_max|reduce_min)"),
        "tl.max(x, axis=0) reduces a block; tl.maximum(a, b) compares two blocks element by element.",
    ),
    (
        _NO_ATTRIBUTE.format("(?:cumulative_sum|scan|prefix_sum|cum_sum)"),
        "Use tl.cumsum(x, axis=0); between blocks of a row, carry the sum of the blocks before.",
    ),
    (
        _NO_ATTRIBUTE.format("(?:mean|var|std|norm)"),
        "Use tl.sum(x, axis=0) / n with masked loads whose other is 0.0.",
    ),
    (
        _NO_ATTRIBUTE.format("(?:pow|log1p|expm1|a?tan|a?cosh?|a?sinh?|fmod|round|isnan)"),
        "Call it from libdevice: `from triton.language.extra import libdevice`.",
    ),
    (
        _NO_ATTRIBUTE.format("libdevice") + r"|triton\.language\.(?:math\.)?libdevice",
        "Import it with `from triton.language.extra import libdevice` and call libdevice.f(x).",
    ),
    (
        "KernelNamespace|ExternKernels|extern_kernels",
        "extern_kernels has only mm, bmm, addmm, baddbmm and convolution: write a kernel for the rest.",
    ),
    (
        "cannot import name '(?:grid|split_scan_grid|grid_combo_kernels|cooperative_reduction_grid)'",
        "That import was removed from PyTorch: compute the grid as (triton.cdiv(n, XBLOCK),).",
    ),
    (r"triton\.ops|'triton' has no attribute 'ops'", "triton.ops was removed: write the kernel yourself with tl.dot."),
    ("No module named", "Only torch, triton and the standard library are there."),
    ("cannot import name", "That name is not in this version: do without it."),
    (
        r"module 'triton[\w.]*' has no attribute",
        "Triton 3 has no such function: build it from tl.exp, tl.log, tl.sqrt, tl.where, tl.sum and tl.dot.",
    ),
    (
        r"must be a power of (?:2|two)|power-of-two",
        "Block sizes must be powers of two: use triton.next_power_of_2(n) and mask the offsets that are >= n.",
    ),
    (
        "Cannot access global variable",
        "A kernel cannot read Python globals: pass the value as an argument, or make it a tl.constexpr.",
    ),
    (
        "constexpr",
        "Declare block sizes as `BLOCK: tl.constexpr` in the kernel and pass them by keyword.",
    ),
    (
        r"Both operands must be same dtype|[Uu]nsupported (?:lhs|rhs|dtype).*dot",
        "tl.dot needs both operands in one dtype: convert one with .to(a.dtype); accumulate in tl.float32.",
    ),
    (
        "Did you forget to add @triton.jit",
        "tl functions work only in @triton.jit kernels; check the arguments of the call: tl.max(x, axis) reduces.",
    ),
    (
        "cannot be traced|more than .* steps|host code times",
        "Leave that out: forward should only allocate outputs and launch a few kernels.",
    ),
    (r">= ?16|at least 16", "Every block dimension of tl.dot must be at least 16."),
    (
        "argument cannot be block type if pointer argument is not a block",
        "The mask is a block but the pointer is one address: add tl.arange offsets to the pointer.",
    ),
    (
        "incompatible dimensions|make_shape_compatible|cannot broadcast|[Rr]ank mismatch",
        "Block shapes do not fit: widen with [:, None] and [None, :] so that both have the same rank.",
    ),
    (
        "Boolean value of Tensor|chained boolean",
        "A block is no Python bool: use tl.where(condition, a, b) and combine masks with & and |.",
    ),
    ("exceeds triton maximum tensor numel", "The block is too large: use a smaller block and loop over the rest."),
    (
        "[Ll]oop-carried|initial value for .* is of type",
        "A variable changes its type in the loop: start it with tl.zeros of the same shape and dtype.",
    ),
    (
        "Unsupported ptr type|not of pointer type|Expected pointer",
        "tl.load and tl.store take a pointer: pass the tensor itself to the kernel, and add offsets to it.",
    ),
    (
        "unsupported tensor index|unsupported AST node|is not iterable|item assignment|__setitem__",
        "Inside a kernel there is no indexing by element and no lists: use pointers, offsets and masks.",
    ),
    (
        r"Keyword argument \w+ was specified but unrecognised|unexpected keyword|positional argument",
        "The call does not fit the parameters: ModelNew takes what Model takes, forward takes the inputs, "
        "and a kernel every parameter it names.",
    ),
    (
        "expected size|expected stride|assert_size_stride|wrong number of dimensions",
        "The sizes or strides asserted are not those of this tensor: take them from it, or leave the assert out.",
    ),
    (
        "mat1 and mat2|size mismatch|shapes cannot be multiplied|must match the size of tensor",
        "Check the shapes: nn.Linear keeps its weight as (out_features, in_features).",
    ),
    (
        "cpu tensor|same device|^Device:",
        "Allocate every tensor on the device of the input: torch.empty(..., device=x.device).",
    ),
    ("OutOfResources|shared memory|out of resource", "Use smaller blocks or fewer num_stages."),
    ("grid", "The grid is a tuple of one to three positive numbers; the second and third are at most 65535."),
    (
        r"Cannot call @triton\.jit|outside of the scope of a kernel",
        "Launch a kernel as kernel[grid](arguments); only other kernels may call it without a grid.",
    ),
    ("NameError|is not defined", "Define or import that name in the file, inside the kernel for kernel code."),
    ("^(?:Syntax|Indentation|Tab)Error:", "Write the whole file again, as one complete Python module."),
    ("^Aliasing:", "Write the result to a new tensor from torch.empty_like, and leave the inputs as they are."),
)

# Elsewhere the message is the judge's own, and says nothing that the patterns mean.
_HINTED_BY_TEXT = frozenset(
    {Status.REJECTED, Status.TRACE_ERROR, Status.UNTRACEABLE, Status.COMPILE_ERROR, Status.LAUNCH_ERROR}
)


def render_feedback(status: Status, failure: Failure, findings: Sequence[Finding] = ()) -> str:
    """What happened, the program's own line, the last line of the message, then what is known to be wrong in the text,
    as far as there is room, or without such findings one hint; at most 250 tokens."""
    lines = [lead(status, failure)]
    if failure.mismatch is not None:
        lines += _mismatch_lines(failure.mismatch)
    elif status is not Status.PASSED:
        lines += _error_lines(failure, status=status)
    messages = dict.fromkeys(_one_line(finding.message, limit=MAX_MESSAGE_CHARACTERS) for finding in findings)
    hint = find_hint(status, failure) if failure.mismatch is not None or not messages else None
    for message in (*messages, *([f"Hint: {hint}"] if hint is not None else [])):
        if sum(len(line) + 1 for line in lines) + len(message) <= MAX_FEEDBACK_CHARACTERS:
            lines.append(message)
    return "\n".join(line for line in lines if line)[:MAX_FEEDBACK_CHARACTERS]


def lead(status: Status, failure: Failure | None) -> str:
    """What happened, in a sentence."""
    told = None if failure is None else LEADS_BY_CLASS.get(failure.error_class)
    return LEADS[status] if told is None else told


def find_hint(status: Status, failure: Failure) -> str | None:
    """The one piece of advice that fits best, or None."""
    if status in (Status.PASSED, Status.UNVERIFIED):
        return None  # there is nothing for the program to mend
    if failure.mismatch is not None and failure.mismatch.pattern is not None:
        return PATTERN_WORDS[failure.mismatch.pattern][1]
    if status in _HINTED_BY_TEXT:
        text = f"{failure.error_class}: {failure.message[:2000]}"
        for pattern, advice in HINTS:
            if re.search(pattern, text):
                return advice
    return STATUS_HINTS.get(status)


def _error_lines(failure: Failure, *, status: Status) -> list[str]:
    message = _one_line(_last_line(failure.message), limit=MAX_MESSAGE_CHARACTERS)
    error_class = _one_line(failure.error_class, limit=60)
    source = _one_line(failure.source_line or "", limit=MAX_SOURCE_LINE_CHARACTERS)
    if not source and failure.line_number is None:
        return [message if error_class == status else f"{error_class}: {message}"]
    place = f" at line {failure.line_number}" if failure.line_number is not None else ""
    return [f"{error_class}{place}: {source}".removesuffix(": "), message]


def _mismatch_lines(mismatch: Mismatch) -> list[str]:
    index = ", ".join(map(str, mismatch.first_bad_index[:8]))
    line = (
        f"{_one_line(mismatch.output, limit=60)}: {percent(mismatch.share_wrong)} of the elements are wrong. "
        f"First at [{index}]: expected {mismatch.expected:.6g}, got {mismatch.got:.6g}."
    )
    if mismatch.pattern is None:
        return [line]
    words = PATTERN_WORDS[mismatch.pattern][0]
    if mismatch.pattern is Pattern.CONSTANT_RATIO and mismatch.expected:
        words = f"{words.removesuffix('.')} (got / expected = {mismatch.got / mismatch.expected:.4g})."
    return [line, words]


def percent(share: float) -> str:
    """Never rounds a few wrong elements to none, or nearly all to all."""
    if share == 1.0:
        return "100%"
    if share < 0.001:
        return "less than 0.1%"
    return f"{min(share, 0.999):.1%}"


def _last_line(message: str) -> str:
    """The last line that says something, out of the quotes that Triton puts around an inner error."""
    lines = [line.strip() for line in message.splitlines() if line.strip(" \t^")]
    last = lines[-1] if lines else ""
    wrapped = re.fullmatch(r"(\w+)\((['\"])(.*)\2\)", last)
    return f"{wrapped[1]}: {wrapped[3]}" if wrapped else last


def _one_line(text: str, *, limit: int) -> str:
    """`text` as harmless ASCII on one line, its middle left out where it is longer than `limit`."""
    text = re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", text[:4000])
    text = re.sub(r"(?:/[\w.+-]+){2,}/([\w.+-]+)", r"\1", text)
    text = text.encode("ascii", "replace").decode()
    text = re.sub(r"[\x00-\x20\x7f]+", " ", text).replace("```", "'''").strip()
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
