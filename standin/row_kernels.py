"""Kernels that work along one dimension: a row held at once, a row in blocks, or a block of columns walked down.

Knows nothing of problems: it is given what to load, what to compute before and after, and a kind of `row_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from standin.answer_text import Dialect, kernel
from standin.operations import Step, triton_lines
from standin.row_kinds import MINUS_INF, ZERO, Pass, RowKind

Form = Literal["whole", "blocks", "columns"]
_REDUCE = {"sum": "tl.sum", "max": "tl.max", "min": "tl.min", "argmax": "tl.argmax", "argmin": "tl.argmin"}
_START = {"sum": "tl.zeros([{b}], dtype=tl.float32)", "max": "tl.full([{b}], {i}, dtype=tl.float32)"}
_UPDATE = {"sum": "acc += {v}", "max": "acc = tl.maximum(acc, {v})", "min": "acc = tl.minimum(acc, {v})"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWork:
    """What a row kernel does. `inputs` are its tensors, the first is reduced; the steps' second tensors follow.

    `batched` says, for columns, that there is a dimension before the one that is walked.
    """

    kind: RowKind
    form: Form
    inputs: tuple[str, ...]
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    batched: bool = False

    @property
    def num_loads(self) -> int:
        """Tensors that are loaded with the first; the rest belong to the steps after."""
        return 1 + sum(bool(step.other) for step in self.before)


def row_kernel(name: str, work: RowWork, dialect: Dialect, rng: Random) -> str:
    """The kernel's text. Its parameters are the tensors, the weights, the output, the sizes and the block."""
    pointers = dialect.pointers([*work.inputs, *(weight for weight, _ in work.kind.weights)])
    writer = _Writer(work=work, dialect=dialect, rng=Random(rng.random()), pointers=pointers)
    sizes = [dialect.width] if work.form != "columns" else ["n_rows", dialect.width]
    parameters = [*pointers, dialect.out_ptr, *sizes, f"{dialect.block}: tl.constexpr"]
    return kernel(name, parameters, writer.whole() if work.form == "whole" else writer.walked())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    work: RowWork
    dialect: Dialect
    rng: Random
    pointers: list[str]

    @property
    def _value(self) -> str:
        return self.work.inputs[0]

    def _at(self, *, out: bool = False) -> str:
        d, work = self.dialect, self.work
        if work.form != "columns":
            return f"{d.row} * {d.width} + {d.cols}"
        walked = "" if out and work.kind.scalar else f"r * {d.width} + "
        if not work.batched:
            return f"{walked}{d.cols}"
        return f"{d.row} * {d.width} + {d.cols}" if out and work.kind.scalar else f"base + {walked}{d.cols}"

    def _load(self, steps: list[str], *, neutral_past_end: bool = True) -> list[str]:
        """The elements, with what is computed before and, where they are combined, the neutral value past the end.
        `steps` were drawn once, so that every pass computes the same."""
        d, work = self.dialect, self.work
        neutral = work.kind.neutral
        plain = not work.before
        lines = []
        for value, pointer in zip(work.inputs[: work.num_loads], self.pointers, strict=False):
            other = f", other={neutral if plain else ZERO}" if work.form != "columns" or plain else ""
            lines.append(f"{value} = tl.load({pointer} + {self._at()}, mask={d.mask}{other})")
        lines += steps
        if not plain and neutral_past_end and work.form != "columns":
            lines.append(f"{self._value} = tl.where({d.mask}, {self._value}, {neutral})")
        return lines

    def _drawn(self) -> list[str]:
        return triton_lines(self.work.before, self._value, self.rng)[0]

    def _element(self) -> list[str]:
        element = self.work.kind.element
        if element is None:
            return []
        value = element.value.format(x=self._value)
        if element.masked and self.work.form != "columns":
            value = f"tl.where({self.dialect.mask}, {value}, 0.0)"
        return [f"{element.name} = {value}"]

    def _finish(self, *, element: bool) -> list[str]:
        """From the passes' results to the store."""
        d, work = self.dialect, self.work
        kind = work.kind
        expression = kind.triton.format(x=self._value)
        if kind.scalar:
            lines, result = self._after("result", expression)
            where = d.row if work.form != "columns" else self._at(out=True)
            mask = "" if work.form != "columns" else f", mask={d.mask}"
            return [*lines, f"tl.store({d.out_ptr} + {where}, {result}{mask})"]
        lines = self._element() if element and kind.element and kind.element.name in kind.triton else []
        weights = self.pointers[len(work.inputs) :]
        lines += [
            f"{name} = tl.load({pointer} + {d.cols}, mask={d.mask})"
            for (name, _), pointer in zip(kind.weights, weights, strict=True)
        ]
        after, result = self._after("out", expression)
        extra = list(zip(work.inputs, self.pointers, strict=False))[work.num_loads : len(work.inputs)]
        lines += [f"{value} = tl.load({pointer} + {self._at()}, mask={d.mask})" for value, pointer in extra]
        return [*lines, *after, f"tl.store({d.out_ptr} + {self._at(out=True)}, {result}, mask={d.mask})"]

    def _after(self, name: str, expression: str) -> tuple[list[str], str]:
        if not self.work.after and expression.isidentifier():
            return [], expression
        lines, result = triton_lines(self.work.after, name, self.rng)
        return [f"{name} = {expression}", *lines], result

    def whole(self) -> list[str]:
        d, work = self.dialect, self.work
        lines = [
            f"{d.row} = tl.program_id(0)",
            f"{d.cols} = tl.arange(0, {d.block})",
            f"{d.mask} = {d.cols} < {d.width}",
            *self._load(self._drawn()),
        ]
        for number, each in enumerate(work.kind.passes):
            lines += self._element() if number == 1 else []
            reduced = f"{_REDUCE[each.combine]}({each.value.format(x=self._value)}, axis=0)"
            lines.append(each.then.format(r=reduced, n=d.width))
        return [*lines, *self._finish(element=False)]

    def walked(self) -> list[str]:
        d, work = self.dialect, self.work
        columns = work.form == "columns"
        lines = [f"{d.row} = tl.program_id(0)"] if not columns or work.batched else []
        if columns:
            block = f"tl.program_id({int(work.batched)})"
            lines.append(f"{d.cols} = {block} * {d.block} + tl.arange(0, {d.block})")
            lines.append(f"{d.mask} = {d.cols} < {d.width}")
            if work.batched:
                lines.append(f"base = {d.row} * n_rows * {d.width}")
        drawn = self._drawn()
        for number, each in enumerate(work.kind.passes):
            lines += self._pass(each, drawn, element=number == 1)
        if work.kind.scalar:
            return [*lines, *self._finish(element=False)]
        return [*lines, *self._loop([*self._load(drawn, neutral_past_end=False), *self._finish(element=True)])]

    def _loop(self, body: Sequence[str]) -> list[str]:
        d = self.dialect
        if self.work.form == "columns":
            head = ["for r in range(n_rows):"]
        else:
            head = [
                f"for start in range(0, {d.width}, {d.block}):",
                f"    {d.cols} = start + tl.arange(0, {d.block})",
                f"    {d.mask} = {d.cols} < {d.width}",
            ]
        return [*head, *(f"    {line}" for line in body)]

    def _pass(self, each: Pass, drawn: list[str], *, element: bool) -> list[str]:
        d, columns = self.dialect, self.work.form == "columns"
        value = each.value.format(x=self._value)
        infinite = MINUS_INF if each.combine == "max" else 'float("inf")'
        start = _START["sum" if each.combine == "sum" else "max"].format(b=d.block, i=infinite)
        body = [*self._load(drawn), *(self._element() if element else []), _UPDATE[each.combine].format(v=value)]
        reduced = "acc" if columns else f"{_REDUCE[each.combine]}(acc, axis=0)"
        width = "n_rows" if columns else d.width
        return [f"acc = {start}", *self._loop(body), each.then.format(r=reduced, n=width)]
