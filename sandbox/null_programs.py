"""Programs that do not do a problem's work and must not pass: constants, copies of inputs, parts of the answer, the
reference with one operation or one weight left out.

Makes their outputs on a case. Whether they pass is `calibrate.py`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sandbox.eager_mode import EagerMode
from sandbox.error_figures import CHUNK_ELEMENTS
from sandbox.reference import Case, Reference

MAX_LEFT_OUT = 24  # operations of one problem, as many with another argument in their place, and as many weights
_MAX_COPIES = 8
_CONSTANTS: Mapping[str, float] = {
    "zeros": 0.0, "ones": 1.0, "halves": 0.5, "tiny": 1e-20, "minus ones": -1.0, "NaN": math.nan, "-inf": -math.inf,
}  # fmt: skip
# Leaving these out is no cheat: they move, convert, make memory or draw.
_KEPT = frozenset((
    "clone", "contiguous", "detach", "alias", "lift_fresh", "_to_copy", "expand", "view", "_unsafe_view", "reshape",
    "as_strided", "t", "transpose", "permute", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like",
    "new_zeros", "new_full", "new_ones", "squeeze", "unsqueeze", "slice", "narrow", "select", "normal_", "uniform_",
    "bernoulli_", "set_", "resize_", "resize_as_",
))  # fmt: skip
_UNWRITTEN = frozenset(("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"))
_COPIES = frozenset(("copy_", "fill_"))  # an argument in their place is what they do


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A case for null programs to be run on. `own` are the reference's outputs on it; `other_inputs` gives inputs of
    the same kind under another seed, and `elsewhere` the reference's outputs on those."""

    reference: Reference
    case: Case
    own: Sequence[torch.Tensor]
    other_inputs: Callable[[], Sequence[torch.Tensor]]
    elsewhere: Callable[[], Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NullProgram:
    """One program that must not pass.

    `outputs` gives its outputs on a trial by position (those left out are the reference's own), or None where it has
    none there. `bars` says that the problem is inadmissible if it passes; else what it leaves out is reported as
    `unseen`. `weight` is the weight that it leaves out, if it does that.
    """

    name: str
    bars: bool
    outputs: Callable[[Trial], Mapping[int, torch.Tensor] | None]
    weight: str | None = None


def null_programs(reference: Reference, trial: Trial) -> list[NullProgram]:
    """Every null program of a problem, the cheap ones first. `trial` shows the outputs and the graph."""
    found = [program for at in range(len(trial.own)) for program in _of_output(at, trial)]
    found.append(NullProgram(name="the reference on other inputs", bars=True, outputs=_elsewhere))
    if len(trial.case.inputs) > 1:
        found += [_redrawn(at) for at, given in enumerate(trial.case.inputs) if given.numel()]
    found += [_without_weight(name, value) for name, value in _default_weights(reference, trial.case)]
    return found + [_without_operation(*which) for which in _droppable(trial)]


def _of_output(at: int, trial: Trial) -> Iterator[NullProgram]:
    """Those that put something cheap in the place of one output."""
    own, where = trial.own[at], "" if len(trial.own) == 1 else f" at output {at}"

    def program(name: str, make: Callable[[Trial], torch.Tensor | None]) -> NullProgram:
        def outputs(trial: Trial) -> Mapping[int, torch.Tensor] | None:
            made = make(trial)
            return None if made is None else {at: made}

        return NullProgram(name=name + where, bars=True, outputs=outputs)

    if own.numel() == 0:
        return
    for name, value in _CONSTANTS.items():
        if own.is_floating_point() or value in (0.0, 1.0):
            yield program(name, lambda t, value=value: torch.full_like(t.own[at], value))  # type: ignore[misc]
    yield program("the mean of other answers", lambda t: _mean(t.elsewhere()[at]))
    for index in range(len(trial.case.inputs)):
        if index < _MAX_COPIES and _copied(trial.case.inputs[index], own) is not None:
            yield program(
                f"a copy of input {index}",
                lambda t, index=index: _copied(t.case.inputs[index], t.own[at]),  # type: ignore[misc]
            )
    if own.is_floating_point():
        part = _part_off(own.dtype, precision=trial.case.precision)
        yield program(f"{1 - part:g} x the answer", lambda t: t.own[at] * (1 - part))
        yield program(f"{1 + part:g} x the answer", lambda t: t.own[at] * (1 + part))
    tenth, row = max(1, own.numel() // 10), own.numel() // max(1, len(own) if own.dim() else 1)
    if own.numel() > 1:
        yield program("all but the last tenth", lambda t: _cut(t.own[at], tenth))
    if own.dim() > 1 and own.shape[0] > 1:
        yield program("all but the last row", lambda t: _cut(t.own[at], row))


def _part_off(dtype: torch.dtype, *, precision: str) -> float:
    """One in a hundred, or four epsilons where those are more (3.1 % in bfloat16): rounding the result once or twice
    explains less. One in ten where sums are in float16: over thousands of terms those err by percents."""
    return 0.1 if precision == "fp16_accumulate" else max(0.01, 4 * torch.finfo(dtype).eps)


def _mean(own: torch.Tensor) -> torch.Tensor:
    """The mean of the finite values everywhere; for dtypes that are not floating the nearest value to it. By parts:
    what a mask selects is found by indices of 8 bytes for each element and dimension."""
    flat, total, count = own.reshape(-1), 0.0, 0
    for start in range(0, flat.numel(), CHUNK_ELEMENTS):
        part = flat[start : start + CHUNK_ELEMENTS].double()
        finite = torch.isfinite(part)
        total, count = total + float(torch.where(finite, part, 0.0).sum()), count + int(finite.sum())
    mean = total / count if count else 0.0
    return torch.full_like(own, mean if own.is_floating_point() else round(mean))


def _copied(given: torch.Tensor, own: torch.Tensor) -> torch.Tensor | None:
    """The input in the output's shape: as it is, reshaped, cropped or broadcast; None where none is natural."""
    if given.shape == own.shape:
        copied = given
    elif given.numel() == own.numel():
        copied = given.reshape(own.shape)
    elif given.dim() == own.dim() and all(a >= b for a, b in zip(given.shape, own.shape, strict=True)):
        copied = given[tuple(slice(0, size) for size in own.shape)]
    elif given.numel() and given.dim() <= own.dim() and _broadcasts(given.shape, own.shape):
        copied = given.expand(own.shape)
    else:
        return None
    return copied.to(own.dtype)


def _broadcasts(small: Sequence[int], large: Sequence[int]) -> bool:
    return all(a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False))


def _cut(own: torch.Tensor, count: int) -> torch.Tensor | None:
    """The answer with its last `count` elements zero; None where they are zero anyway, as below a diagonal."""
    flat = own.reshape(-1)
    if not bool(flat[-count:].any()):
        return None
    result = flat.clone()
    result[-count:] = 0
    return result.reshape(own.shape)


def _elsewhere(trial: Trial) -> Mapping[int, torch.Tensor]:
    return dict(enumerate(trial.elsewhere()))


def _redrawn(at: int) -> NullProgram:
    """The reference with one of several inputs from another seed: it passes if that input does not matter."""

    def outputs(trial: Trial) -> Mapping[int, torch.Tensor]:
        other = trial.other_inputs()[at]
        inputs = [other if i == at else t for i, t in enumerate(trial.case.inputs)]
        return dict(enumerate(trial.reference.run(trial.case, inputs=inputs)))

    return NullProgram(name=f"input {at}", bars=False, outputs=outputs)


def _default_weights(reference: Reference, case: Case) -> list[tuple[str, float]]:
    """The floating weights, each with the value that stands for leaving it out: what construction gives all its
    elements, or zero."""
    built = reference.constructed(case)
    floating = [(name, t) for name, t in built.items() if t.is_floating_point() and t.numel()]
    defaults = [(name, _constant_value(t) or 0.0) for name, t in floating]
    return _evenly(defaults)


def _constant_value(t: torch.Tensor) -> float | None:
    first = t.detach().reshape(-1)[0]
    return float(first) if bool((t == first).all()) else None


def _without_weight(name: str, value: float) -> NullProgram:
    def outputs(trial: Trial) -> Mapping[int, torch.Tensor]:
        weights = {name: torch.full_like(trial.case.weights[name], value)}
        return dict(enumerate(trial.reference.run(trial.case, weights=weights)))

    return NullProgram(name=f"weight {name}", bars=False, outputs=outputs, weight=name)


def _droppable(trial: Trial) -> list[tuple[int, int, str]]:
    """(position among the operations that can be left out, number of the stand-in, name) of those that are to be left
    out, spread evenly if many: each operation with its first stand-in, then with others."""
    counting = _LeftOut()
    trial.reference.run(trial.case, under=counting)
    firsts = [(at, 0, f"{name} (operation {at + 1})") for at, (name, _) in enumerate(counting.found)]
    others = [
        (at, number, f"{name} (operation {at + 1}, {stand_in} in its place)")
        for at, (name, stand_ins) in enumerate(counting.found)
        for number, stand_in in enumerate(stand_ins)
        if number > 0
    ]
    return _evenly(firsts) + _evenly(others)


def _without_operation(at: int, number: int, name: str) -> NullProgram:
    def outputs(trial: Trial) -> Mapping[int, torch.Tensor]:
        return dict(enumerate(trial.reference.run(trial.case, under=_LeftOut(at, number))))

    return NullProgram(name=name, bars=False, outputs=outputs)


class _LeftOut(EagerMode):
    """Leaves out one operation: an argument of the result's shape and dtype stands in for the result, or what it would
    write to stays as it is. Notes all that can be left out, each with the names of its stand-ins.

    Memory that nobody has written then holds NaN: what lies there by chance may be an earlier answer.
    """

    def __init__(self, at: int | None = None, number: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._at, self._number = at, number
        self.found: list[tuple[str, list[str]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, given = func.overloadpacket.__name__, dict(kwargs or {})
        if name in _KEPT or func.is_view or torch.Tag.inplace_view in func.tags:
            return func(*args, **given)
        if name in _UNWRITTEN:
            made = func(*args, **given)
            return made.fill_(math.nan) if self._at is not None and _matters(made) else made
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | given
        if (written := _written(func, named)) is not None:
            kept = self._stand_in(name, _before_writing(name, written, named))
            if kept is None:
                return func(*args, **given)
            return written if kept is written else written.copy_(kept)
        result = func(*args, **given)
        first = result[0] if isinstance(result, tuple) and result else result
        kept = self._stand_in(name, _stand_ins(first, named))
        if kept is None:
            return result
        rest = result[1:] if isinstance(result, tuple) else None
        del result, first  # makes room
        return kept.clone() if rest is None else (kept.clone(), *rest)

    def _stand_in(self, name: str, stand_ins: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Notes an operation. What is to stand in for it; None unless it is the one to be left out."""
        if not stand_ins:
            return None
        self.found.append((name, list(stand_ins)))
        if len(self.found) - 1 != self._at:
            return None
        return list(stand_ins.values())[self._number]


def _written(func: Any, named: Mapping[str, Any]) -> torch.Tensor | None:
    """The argument that an operation in place, or one with `out`, writes to and returns; None for all others."""
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    returned = [r for r in func._schema.returns if r.alias_info is not None and r.alias_info.is_write]
    if len(names) != 1 or len(returned) != 1 or len(func._schema.returns) != 1:
        return None
    written = named.get(names[0])
    return written if isinstance(written, torch.Tensor) else None


def _before_writing(name: str, written: torch.Tensor, named: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What may be in `written` instead: what it holds already comes first."""
    if name == "copy_" and _same_memory(written, named["src"]):  # the second half of `y[:, 0] += 1`
        return {}
    stand_ins = _stand_ins(written, named)
    return {at: t for at, t in stand_ins.items() if t is written} if name in _COPIES else stand_ins


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.data_ptr(), a.shape, a.stride(), a.dtype) == (b.data_ptr(), b.shape, b.stride(), b.dtype)


def _stand_ins(result: Any, named: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The arguments, by name, that fit in the place of `result`; the one that is `result` itself comes first."""
    if not _matters(result):
        return {}
    fitting = [
        (name, t)
        for name, t in named.items()
        if isinstance(t, torch.Tensor) and t.shape == result.shape and t.dtype == result.dtype
    ]
    fitting.sort(key=lambda item: item[1] is not result)
    distinct: dict[int, str] = {}
    for name, t in fitting:
        distinct.setdefault(id(t), name)
    return {name: named[name] for name in distinct.values()}


def _matters(made: Any) -> bool:
    """Whether leaving out what makes `made` is a program to try: integers may be indices, and no elements no loss."""
    return isinstance(made, torch.Tensor) and made.is_floating_point() and made.numel() > 0


def _evenly(items: list[Any]) -> list[Any]:
    """At most `MAX_LEFT_OUT` of the items, spread over all of them."""
    if len(items) <= MAX_LEFT_OUT:
        return items
    return [items[round(i * (len(items) - 1) / (MAX_LEFT_OUT - 1))] for i in range(MAX_LEFT_OUT)]
