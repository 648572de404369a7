"""Breaks a right answer in the ways in which models break them. Standard library alone; a function of pair and seed.

Works on the text, as a slip of the pen does: on the answer in the generator's plain names, which then get the pair's.
Some of what comes out is right all the same (a mask that nothing needs): only a judge can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from standin import slips
from standin.pairs import Pair, answer_to_another

ANOTHER = "answer_to_another"
_ANOTHER_SHARE = 0.25
_FURTHER = (0, 0, 1, 1, 2, 3)  # slips more than one, of which one is drawn
_TEXT = Callable[[str, Random], str | None]  # the broken source, or None where that slip has no place in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """A broken answer, and what was done to it."""

    name: str
    source: str


def broken(pair: Pair, *, seed: int) -> Breakage:
    """The answer of `pair` with one slip, drawn from those that have a place in it, or now and then the answer to
    another problem."""
    return _named(_broken(pair, seed=seed), pair)


def broken_further(pair: Pair, *, seed: int) -> Breakage:
    """The same, and in two of three cases one to three slips more: what models get wrong is rarely one thing."""
    rng, result = Random(f"break further {pair.split} {pair.seed} {seed}"), _broken(pair, seed=seed)
    for _ in range(rng.choice(_FURTHER)):
        if (more := _slip(result.source, pair, rng)) is not None:
            result = Breakage(name=f"{result.name} and {more.name}", source=more.source)
    return _named(result, pair)


def _named(slip: Breakage, pair: Pair) -> Breakage:
    """With the names of the pair in place of plain ones."""
    return Breakage(name=slip.name, source=pair.naming.renamed(slip.source))


def _broken(pair: Pair, *, seed: int) -> Breakage:
    rng = Random(f"break {pair.split} {pair.seed} {seed}")
    if rng.random() < _ANOTHER_SHARE and (source := answer_to_another(pair, rng)) is not None:
        return Breakage(name=ANOTHER, source=source)
    found = _slip(pair.plain, pair, rng)
    if found is None:
        raise ValueError(f"nothing can be broken in the answer to {pair.split} pair {pair.seed}")
    return found


def _slip(answer: str, pair: Pair, rng: Random) -> Breakage | None:
    """One slip of the pen, of those that have a place in the answer and do not bring it back to what is right."""
    left = dict(_BREAKS)
    while left:
        (name,) = rng.choices(list(left), [weight for weight, _ in left.values()])
        _, change = left.pop(name)
        source = change(answer, rng)
        if source is not None and source != answer and pair.naming.renamed(source) != pair.answer:
            return Breakage(name=name, source=source)
    return None


def _swap(*changes: tuple[str, Sequence[str]]) -> _TEXT:
    """One match of one of the patterns, replaced by one of its replacements. Patterns are over single lines."""
    compiled = [(re.compile(pattern, re.MULTILINE), tuple(replacements)) for pattern, replacements in changes]

    def change(source: str, rng: Random) -> str | None:
        found = [(match, replacements) for p, replacements in compiled for match in p.finditer(source)]
        if not found:
            return None
        match, replacements = rng.choice(found)
        return source[: match.start()] + match.expand(rng.choice(replacements)) + source[match.end() :]

    return change


def _everywhere(*changes: tuple[str, Sequence[str]]) -> _TEXT:
    """The same for all matches of one pattern at once: who believes in a name uses it throughout."""

    def change(source: str, rng: Random) -> str | None:
        found = [(pattern, replacements) for pattern, replacements in changes if re.search(pattern, source)]
        if not found:
            return None
        pattern, replacements = rng.choice(found)
        return re.sub(pattern, rng.choice(tuple(replacements)), source)

    return change


_STEP = re.compile(
    r"^ +(\w+) = (?!.*tl\.(?:load|arange|program_id|zeros|full|dot))(?=.*\b(?:tl|libdevice|\d)\b).*\n", re.M
)
_LAUNCH = re.compile(r"^( +\w+\[.*?\]\()(.*)\)$", re.M)
_NUMBER = re.compile(r"(?<![\w.\[(=])(\d+\.\d+|\d+)(?![\w.])")


def _forgotten_step(source: str, rng: Random) -> str | None:
    """A line of the kernel that computes a value from itself is left out."""
    found = [match for match in _STEP.finditer(source) if re.search(rf"= .*\b{match.group(1)}\b", match.group())]
    found += list(re.finditer(r"^ +(?:acc = acc \+ tl\.load|\w+ = tl\.where\(\w*mask).*\n", source, re.M))
    if not found:
        return None
    match = rng.choice(found)
    return source[: match.start()] + source[match.end() :]


def _launch_arguments(change: Callable[[list[str], Random], list[str] | None]) -> _TEXT:
    def broken_launch(source: str, rng: Random) -> str | None:
        launches = list(_LAUNCH.finditer(source))
        if not launches:
            return None
        match = rng.choice(launches)
        arguments = re.split(r", (?![^\[]*\])", match.group(2))  # not within an index
        changed = change(arguments, rng)
        if changed is None:
            return None
        return f"{source[: match.start()]}{match.group(1)}{', '.join(changed)}){source[match.end() :]}"

    return broken_launch


def _swapped(arguments: list[str], rng: Random) -> list[str] | None:
    places = [i for i in range(len(arguments) - 1) if "=" not in arguments[i] + arguments[i + 1]]
    if not places:
        return None
    at = rng.choice(places)
    return [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]


def _dropped(arguments: list[str], rng: Random) -> list[str] | None:
    at = rng.randrange(len(arguments))
    return [*arguments[:at], *arguments[at + 1 :]]


def _other_number(arguments: list[str], rng: Random) -> list[str] | None:
    places = [i for i, text in enumerate(arguments) if text.isdecimal()]
    if not places:
        return None
    at = rng.choice(places)
    value = int(arguments[at])
    wrong = rng.choice((value * 2, value // 2, value + 1, value - 1, value * 10, value + 16))
    return [*arguments[:at], str(wrong), *arguments[at + 1 :]]


def _wrong_constant(source: str, rng: Random) -> str | None:
    """A number in a kernel's arithmetic becomes another."""
    end = source.find("class ModelNew")
    found = [match for match in _NUMBER.finditer(source, 0, end) if "." in match.group()]
    if not found:
        return None
    match = rng.choice(found)
    wrong = rng.choice(
        [number for number in ("0.5", "1.0", "2.0", "0.1", "3.0", "0.01", "0.0") if number != match.group()]
    )
    return source[: match.start()] + wrong + source[match.end() :]


def _undefined(source: str, rng: Random) -> str | None:
    """One use of a name is misspelt, as by another author's habit."""
    habits = {
        "n_elements": "num_elements", "offsets": "offset", "mask": "msk", "BLOCK_SIZE": "BLOCK", "output": "out",
        "cols": "col", "out": "output", "offs": "offsets", "xindex": "xoffset", "n_cols": "n_columns",
        "peak": "max_val", "mean": "mu", "total": "sum", "rk": "k_offs", "xmask": "mask", "rnumel": "r_numel",
        "out_ptr": "y_ptr",
    }  # fmt: skip
    found = [
        match for match in re.finditer(r"(?<![\w.])[a-zA-Z_]\w*(?![\w=])(?! =)", source) if match.group() in habits
    ]
    if not found:
        return None
    match = rng.choice(found)
    return source[: match.start()] + habits[match.group()] + source[match.end() :]


_ONE_NAME = r"(\w+)"
# Name: how often it is drawn, beside the others, and what it does.
_BREAKS: dict[str, tuple[float, _TEXT]] = {
    "wrong_helper": (22, slips.wrong_helper),
    "wrong_kernel": (6, slips.wrong_kernel),
    "renamed_once": (12, slips.renamed_once),
    "other_size": (8, slips.other_size),
    "other_dimension": (7, slips.other_dimension),
    "repeated_step": (4, slips.repeated_step),
    "swapped_steps": (3, slips.swapped_steps),
    "other_step": (8, slips.other_step),
    "other_parameters": (6, slips.other_parameters),
    "extra_argument": (4, slips.extra_argument),
    "wrong_index": (6, slips.wrong_index),
    "invented_function": (5, _everywhere(
        (r"libdevice\.tanh\(", ("tl.tanh(", "tl.math.tanh(")),
        (r"\btl\.sigmoid\(", ("libdevice.sigmoid(", "tl.math.sigmoid(", "tl.nn.sigmoid(")),
        (r"libdevice\.(log1p|expm1|atan)\(", (r"tl.\1(", r"tl.math.\1(")),
        (rf"tl\.maximum\({_ONE_NAME}, 0\.0\)", (r"tl.relu(\1)", r"tl.math.relu(\1)", r"libdevice.relu(\1)")),
        (rf"tl\.minimum\(tl\.maximum\({_ONE_NAME}, (\S+)\), (\S+)\)",
         (r"tl.clip(\1, \2, \3)", r"libdevice.clamp(\1, \2, \3)")),
        (rf"0\.5 \* {_ONE_NAME} \* \(1\.0 \+ tl\.erf\(\1 \* 0\.7071067811865476\)\)",
         (r"tl.gelu(\1)", r"tl.math.gelu(\1)")),
        (rf"tl\.where\({_ONE_NAME} > 20\.0, \1, .*\)$", (r"tl.softplus(\1)",)),
        (r"tl\.sum\((\w+), axis=0\) / \w+", (r"tl.mean(\1, axis=0)",)),
        (r"tl\.cumsum\((\w+), axis=0\)", (r"tl.scan(\1, axis=0)", r"tl.prefix_sum(\1)")),
        (r"tl\.abs\(", ("tl.fabs(",)),
        (r"tl\.sqrt\((\w+)\)", (r"tl.pow(\1, 0.5)",)),
    )),
    "max_for_maximum": (2, _everywhere((r"tl\.maximum\(", ("tl.max(",)), (r"tl\.minimum\(", ("tl.min(",)))),
    "missing_mask": (3, _swap((r", mask=[^=\n]*?(?=, other|\)$|\)\[)", ("",)))),
    "wrong_other": (4, _swap(
        (r'-float\("inf"\)', ("0.0", 'float("inf")')), (r", other=0\.0", (", other=1.0", ', other=-float("inf")')),
        (r'(?<!-)float\("inf"\)', ("0.0",)), (r"tl\.where\((x?mask), (\w+), 0\.0\)", (r"\2", r"tl.where(\1, \2, 1.0)")),
    )),
    "wrong_stride": (4, _swap(
        (r"(row|xindex) \* (n_cols|rnumel) \+ (cols|offs|rindex)", (r"\1 + \3 * \2", r"\1 + \3", r"\3")),
        (r"r \* (n_cols|rnumel)", ("r * n_rows", r"\1")),
        (r"\[:, None\] \* ([MNK])", (r"[:, None] * M", r"[:, None] * N")),
        (r"base = .*", ("base = 0",)), (r"(offs|offsets|xindex) (%|//) (n_cols|rnumel|hw)", (r"\1 // \3", r"\1 % \3")),
    )),
    "wrong_axis": (1.5, _swap((r"axis=0", ("axis=1",)), (r"program_id\(0\)", ("program_id(1)",)))),
    "wrong_number": (5, _launch_arguments(_other_number)),
    "wrong_size": (3, _swap(
        (r"(\w+)\.numel\(\)", (r"\1.shape[0]", r"\1.shape[-1]")), (r"\.shape\[-1\]", (".shape[0]",)),
        (r"n_rows, n_cols = (\w+)\.shape", (r"n_cols, n_rows = \1.shape",)), (r"\.shape\[:-1\]", (".shape",)),
        (r"torch\.empty\(\((\w+),\)", (r"torch.empty((\1, 1)",)),
        (r"torch\.empty\(\((\w+), (\w+)\)", (r"torch.empty((\2, \1)",)),
    )),
    "wrong_grid": (4, _swap(
        (r"triton\.cdiv\((\w+), (\w+)\)", (r"\1 // \2", r"triton.cdiv(\1, \2) - 1")),
        (r"\[\((\w+),\)\]", (r"[(\1 - 1,)]",)),
    )),
    "missing_import": (2, _swap(
        (r"^import triton\.language as tl\n", ("",)), (r"^from triton\.language\.extra import libdevice\n", ("",)),
        (r"^import torch\.nn as nn\n", ("",)), (r"^import triton\n", ("",)),
        (r"^from triton\.language\.extra import libdevice\n", ("from triton.language import libdevice\n",)),
    )),
    "missing_jit": (0.7, _swap((r"^@triton\.jit\n", ("",)))),
    "argument_order": (4, _launch_arguments(_swapped)),
    "missing_argument": (3, _launch_arguments(_dropped)),
    "forgotten_step": (7, _forgotten_step),
    "wrong_constant": (6, _wrong_constant),
    "wrong_dtype": (1.5, _swap((r"dtype=\w+\.dtype", ("dtype=torch.float16", "dtype=torch.int32")),
                               (r"dtype=tl\.float32", ("dtype=tl.int32", "dtype=tl.float16")),
                               (r"dtype=torch\.int64", ("dtype=torch.int32", "dtype=torch.float32")))),
    "undefined_name": (5, _undefined),
    "missing_constexpr": (2, _swap((r": tl\.constexpr", ("",)))),
    "forgotten_return": (1.5, _swap((r"^ +return \w+\n(?=\n|\Z)", ("",)))),
    "no_power_of_two": (2, _swap(
        (r"triton\.next_power_of_2\((\w+)\)", (r"\1",)), (r"(BLOCK\w*)=(\d+)", (r"\1=100", r"\1=1000")),
    )),
    "wrong_reduction": (3, _swap(
        (r"tl\.sum\(", ("tl.max(",)), (r"tl\.max\(", ("tl.sum(", "tl.min(")), (r"tl\.min\(", ("tl.max(",)),
        (r"tl\.exp\((\w+) - peak\)", (r"tl.exp(\1)",)), (r"acc \+= ", ("acc = ",)), (r"tl\.argmax", ("tl.argmin",)),
    )),
    "wrong_divisor": (3, _swap(
        (r" / (n_cols|rnumel|n_rows|n|n_elements|xnumel)\b", ("", " / 2")), (r"\((\w+) - 1\)", (r"\1",)),
    )),
    "swapped_branches": (6, _swap((r"tl\.where\((\w+ > \S+), (\w+), ([^()]+)\)$", (r"tl.where(\1, \3, \2)",)))),
    "wrong_sign": (2, _swap(
        (r"(\w+) = (\w+) - (\w+)$", (r"\1 = \3 - \2", r"\1 = \2 + \3")), (r"\+ (\w+)$", (r"- \1",)),
    )),
    "missing_device": (1.5, _swap((r"device=[\w.]+\.device, ", ("",)))),
    "wrong_module": (1.5, _swap(
        (r"triton\.cdiv", ("tl.cdiv", "torch.cdiv")), (r"triton\.next_power_of_2", ("tl.next_power_of_2",)),
        (r"self\.(?:norm|linear)\.", ("self.",)),
    )),
    "does_not_parse": (1, _swap((r"\)$", ("",)), (r":$", ("",)), (r"^(    return .*)$", (r"  \1",)))),
}  # fmt: skip
NAMES = (ANOTHER, *_BREAKS)
