"""Slips that a small model makes by itself: names that do not agree, sizes and steps of another problem, and indices.

Each takes an answer in the generator's plain names to a wrong one, or says None where it has no place. `breaking.py`
draws among them. Where a name is two, the first place has the right one, so that what a repair has to keep to is
settled when it comes to the second. Standard library alone.
"""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

from standin.naming import HELPER, helper_name, kernel_name
from standin.operations import ACTIVATIONS, UNARY
from standin.words import LOCALS, TENSORS

_HELPER = re.compile(rf"(?<!def )\b{HELPER}(?=\()")
_KERNEL = re.compile(r"\b\w+_kernel(?=\[)")
_HOST_NUMBER = re.compile(r"(?<![\w.])\d{1,5}(?![\w.])")
_STEP = re.compile(
    r"^( +)(\w+) = (?!.*tl\.(?:load|arange|program_id|zeros|full|dot)).*\b(?:tl|libdevice|\d|\2)\b.*\n", re.M
)
_NAME = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*(?![\w\"])(?!=[^=])")
_SIGNATURE = re.compile(r"(?<=^@triton\.jit\ndef )(\w+\()(.*)(\):)$", re.M)
_DIMENSIONS = (
    ("n_rows", "n_cols"), ("M", "N", "K"), ("height", "width"), ("height_out", "width_out"), ("length", "length_out"),
    ("height", "height_out"), ("width", "width_out"), ("hw", "channels"), ("rnumel", "xnumel"),
    ("BLOCK_M", "BLOCK_N", "BLOCK_K"),
    ("rm", "rn", "rk"), ("cols", "row"), ("offs", "row"), ("n_elements", "n_cols"), ("n", "n_cols"),
    ("col", "row"), ("i", "j"),
)  # fmt: skip
_INDICES = (
    (r"\[:, None\]", "[None, :]"), (r"\[None, :\]", "[:, None]"), (r" \* n_cols \+ ", " + "), (r" \* N \+ ", " + "),
    (r" \* (M|N|K) \+ ", r" + \1 * "), (r"program_id\(0\)", "program_id(1)"), (r"program_id\(1\)", "program_id(0)"),
    (r" // ", " % "), (r" % ", " // "), (r"\.shape\[-1\]", ".shape[0]"), (r"\.shape\[0\]", ".shape[1]"),
    (r"\.shape\[1\]", ".shape[0]"), (r" \* (\w+) \+ (\w+)(?=,|$)", r" * \2 + \1"), (r"axis=0", "axis=1"),
    (r" - 1 - ", " - "), (r"(?<=\+ )(cols|offs|rindex|rn|rm)(?=,)", r"\1 + 1"),
)  # fmt: skip
_PARAMETERS = ("n_rows", "stride", "y_ptr", "n", "N")
# Of launches, grids and shapes that a model remembers from elsewhere.
_SIZES = (16, 32, 64, 100, 128, 127, 256, 512, 1024, 2048, 4096)


def wrong_helper(source: str, rng: Random) -> str | None:
    """What launches the kernel is defined by one name and called by another."""
    return _renamed_at_one(source, _HELPER, helper_name(rng), rng)


def wrong_kernel(source: str, rng: Random) -> str | None:
    """A kernel is defined by one name and launched by another."""
    return _renamed_at_one(source, _KERNEL, kernel_name(rng, usual="fused_kernel"), rng)


def _renamed_at_one(source: str, pattern: re.Pattern[str], name: str, rng: Random) -> str | None:
    found = list(pattern.finditer(source))
    return _replaced(source, rng.choice(found), name) if found else None


def _replaced(source: str, match: re.Match[str], text: str) -> str:
    return source[: match.start()] + text + source[match.end() :]


def renamed_once(source: str, rng: Random) -> str | None:
    """A name is another in one of its places: a word of its kind, or another name of the text."""
    found = [m for m in _NAME.finditer(source) if m.group() in LOCALS or m.group().removesuffix("_ptr") in TENSORS]
    first = {match.group(): match.start() for match in reversed(found)}
    found = [match for match in found if match.start() != first[match.group()]]
    if not found:
        return None
    match = rng.choice(found)
    name = match.group()
    pool = list(LOCALS.get(name, [f"{word}_ptr" for word in TENSORS] if name.endswith("_ptr") else TENSORS))
    here = sorted(first.keys() - {name})
    return _replaced(source, match, rng.choice(here if here and rng.random() < 0.5 else pool))


def other_size(source: str, rng: Random) -> str | None:
    """A size that stands as a number outside of the kernel is another problem's."""
    found = list(_HOST_NUMBER.finditer(source, _end_of_kernels(source)))
    if not found:
        return None
    match = rng.choice(found)
    value = int(match.group())
    near = (value + rng.randint(1, 9), max(1, value - rng.randint(1, 9)), value * 2, value // 2, rng.choice(_SIZES))
    return _replaced(source, match, str(rng.choice(near)))


def other_dimension(source: str, rng: Random) -> str | None:
    """The name of one dimension stands for another's, in one place."""
    found = [
        (match, [other for other in names if other != name and re.search(rf"\b{other}\b", source)])
        for names in _DIMENSIONS
        for name in names
        for match in re.finditer(rf"(?<![\w.]){name}(?!\w|=[^=])", source)
    ]
    found = [(match, others) for match, others in found if others]
    if not found:
        return None
    match, others = rng.choice(found)
    return _replaced(source, match, rng.choice(others))


def repeated_step(source: str, rng: Random) -> str | None:
    """A value is computed twice over."""
    found = [m for m in _STEP.finditer(source, 0, _end_of_kernels(source)) if _of_itself(m)]
    if not found:
        return None
    match = rng.choice(found)
    return _replaced(source, match, match.group() * 2)


def swapped_steps(source: str, rng: Random) -> str | None:
    """Two lines that follow each other come the other way round."""
    steps = list(_STEP.finditer(source, 0, _end_of_kernels(source)))
    found = [(a, b) for a, b in pairwise(steps) if a.end() == b.start() and a.group(1) == b.group(1)]
    if not found:
        return None
    first, second = rng.choice(found)
    return source[: first.start()] + second.group() + first.group() + source[second.end() :]


def other_step(source: str, rng: Random) -> str | None:
    """A step is another operation's, or one is put in that nobody asked for."""
    found = [m for m in _STEP.finditer(source, 0, _end_of_kernels(source)) if _of_itself(m)]
    if not found:
        return None
    match = rng.choice(found)
    operation = UNARY[rng.choice(ACTIVATIONS)]
    value = match.group(2)
    constant = rng.choice(operation.constants) if operation.constants else ""
    line = f"{match.group(1)}{value} = {rng.choice(operation.triton).format(x=value, c=constant)}\n"
    return _replaced(source, match, line if rng.random() < 0.6 else match.group() + line)


def _of_itself(step: re.Match[str]) -> bool:
    """Whether a line computes a value from itself."""
    return re.search(rf"= .*\b{step.group(2)}\b", step.group()) is not None


def other_parameters(source: str, rng: Random) -> str | None:
    """A kernel's parameters are not what its launch gives: one is missing, too many, or in another's place."""
    found = list(_SIGNATURE.finditer(source))
    if not found:
        return None
    match = rng.choice(found)
    parameters = match.group(2).split(", ")
    plain = [i for i, text in enumerate(parameters) if ":" not in text]
    at = rng.choice(plain)
    kind = rng.choice(("missing", "extra", "swapped"))
    if kind == "missing":
        del parameters[at]
    elif kind == "extra":
        parameters.insert(
            at, rng.choice([name for name in ("n_rows", "stride", "y_ptr", "n", "N") if name not in parameters])
        )
    elif len(plain) > 1:
        other = rng.choice([i for i in plain if i != at])
        parameters[at], parameters[other] = parameters[other], parameters[at]
    return _replaced(source, match, f"{match.group(1)}{', '.join(parameters)}{match.group(3)}")


def extra_argument(source: str, rng: Random) -> str | None:
    """A launch or the helper's call gives one thing more, or again."""
    found = list(re.finditer(rf"^( +.*(?:\w\[.*\]|{HELPER})\()(\w[^()]*)\)$", source, re.M))
    if not found:
        return None
    match = rng.choice(found)
    arguments = match.group(2).split(", ")
    positional = [text for text in arguments if "=" not in text and "[" not in text]
    arguments.insert(rng.randint(0, len(positional)), rng.choice(positional or ["x"]))
    return _replaced(source, match, f"{match.group(1)}{', '.join(arguments)})")


def wrong_index(source: str, rng: Random) -> str | None:
    """Rows for columns, or a stride of the wrong dimension, in one place."""
    found = [(match, text) for pattern, text in _INDICES for match in re.finditer(pattern, source, re.M)]
    if not found:
        return None
    match, text = rng.choice(found)
    return _replaced(source, match, match.expand(text))


def _end_of_kernels(source: str) -> int:
    """Where the code begins that runs on the host."""
    ends = [match.start() for match in re.finditer(r"^(?:class|def) ", source, re.M)]
    jitted = {match.end() for match in re.finditer(r"^@triton\.jit\n", source, re.M)}
    return next((end for end in ends if end not in jitted), len(source))
