"""A problem's PyTorch answer: secret inputs, weights, the float64 result and the bounds around it.

Runs on the judge's side, once per problem and seed; no candidate code is ever in this process. The problem's source is
the user's own and is trusted. Does not know what a candidate or a plan is.
"""

from __future__ import annotations

import copy
import functools
import math
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from sandbox.compare import FEW_ELEMENTS, Bounds, Expected, Keep
from sandbox.describe import construct
from sandbox.device_asserts import DeviceAsserts
from sandbox.error_line import last_line
from sandbox.module_state import (
    has_loose_tensors,
    is_changed,
    is_constant,
    load_attributes,
    load_weights,
    moved_attributes,
    moved_to,
    num_bytes,
    state_of,
)  # fmt: skip
from sandbox.reduced_precision import ROUNDING, reduced
from sandbox.seeding import fixed_rng, seed_torch
from sandbox.stress import move_seed, moved, rounding, stressed, vary_weights
from sandbox.trees import from_tree, tensors_in, to_tree
from sandbox.types import Problem

# Moves of the inputs, at the most, by which the error of an output of few elements is estimated. The estimate of a
# single number's from eight is below half the usual error for 2 % of the seeds, below a quarter for 1 in 10,000.
_MAX_MOVES = 8
_NEXT_CALL = 0x2CA11  # tells a second call's inputs from a case's own
_MODEL_BYTES = 8 << 30  # what the modules that are kept may take; one is kept whatever it takes


class InadmissibleProblem(ValueError):
    """The problem cannot be judged: its own reference does not stand. The message says why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of secret inputs and what must come of it.

    `kind` is "given" (the problem's own distribution) or a kind of `stress.py`. `weights` are on the device of the
    inputs. `hidden` names the parameters that construction makes constant and that no case varies: whether a candidate
    applies them cannot be seen. `matched` says that candidates take all weights by name, so that nobody draws them
    again from the seed. `precision` is the one that `expected` makes room for. `exact` says that the answer is
    float64's; False where the reference insists on its dtype or float64 does not fit. `stateful` says that the
    reference changes what its module keeps, so that its next call may answer otherwise. `attributes` has what an
    earlier call left in plain attributes, which no candidate takes by name.
    """

    seed: int
    kind: str
    inputs: tuple[torch.Tensor, ...]
    weights: Mapping[str, torch.Tensor]
    expected: tuple[Expected, ...]
    hidden: tuple[str, ...] = ()
    matched: bool = False
    precision: str = "ieee"
    exact: bool = True
    stateful: bool = False
    attributes: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Reference:
    """One problem on one device. Raises InadmissibleProblem wherever its own code does not hold up."""

    def __init__(
        self,
        problem: Problem,
        *,
        spec: Mapping[str, Any],
        device: torch.device,
        may_narrow: bool = False,
        keep: Keep | None = None,
    ) -> None:
        """With `may_narrow` an answer that does not fit into memory in float64 is taken in the declared dtype. `keep`
        is where answers stay between comparisons."""
        self._problem, self._spec, self._device = problem, spec, device
        self._may_narrow, self._keep = may_narrow, keep
        self._models: OrderedDict[tuple[int, bool], torch.nn.Module] = OrderedDict()
        self._module = types.ModuleType(f"problem_{problem.key}")
        try:
            exec(compile(problem.source, problem.origin, "exec"), self._module.__dict__)
        except Exception as error:  # the user's own source may raise anything
            raise InadmissibleProblem(f"the reference does not import: {last_line(error)}") from error

    @property
    def problem(self) -> Problem:
        return self._problem

    @property
    def kept_bytes(self) -> int:
        """What the modules that are kept take."""
        return sum(map(num_bytes, self._models.values()))

    @property
    def weight_names(self) -> frozenset[str]:
        """The names of all parameters and buffers."""
        return frozenset(name for name, _, _ in self._spec["weights"])

    def case(self, kind: str, *, seed: int, vary: frozenset[str], precision: str) -> Case | None:
        """A case of that kind, or None where the answer to a stress has no finite bound. `seed` fixes inputs and
        weights.

        A stress moves the weights named in `vary` away from what construction draws: those that the candidate takes by
        name, since no other can follow.
        """
        drawn = self.draw(kind, seed=seed, vary=vary)
        if kind == "given":
            return self.answered(drawn, precision=precision)
        try:
            case = self.answered(drawn, precision=precision)
        except InadmissibleProblem:
            return None
        return case if all(expected.all_finite for expected in case.expected) else None

    def draw(self, kind: str, *, seed: int, vary: frozenset[str]) -> Case:
        """Inputs and weights of a case, without what is expected of them."""
        matched = vary >= self.weight_names
        with fixed_rng(self._device):
            model = self._model(seed, on_device=matched)
            hidden = tuple(name for name, p in model.named_parameters() if name not in vary and is_constant(p))
            inputs = self._inputs(seed)
            if kind != "given":
                model = copy.deepcopy(model)
                vary_weights(model, vary, seed=seed, device=self._device)
                inputs = [stressed(kind, t, seed=seed) for t in inputs]
            weights = {name: t.detach().clone() for name, t in state_of(model).items()}
        return Case(
            seed=seed, kind=kind, inputs=tuple(inputs), weights=weights, expected=(), hidden=hidden, matched=matched
        )

    def answered(self, case: Case, *, precision: str) -> Case:
        """`case` with what is expected, to bounds that leave room for `precision` (see `precision.PRECISIONS`)
        in matrix products.

        Beside the float64 answer no more than one other is in memory at a time.
        """
        with fixed_rng(self._device):
            model = self._fresh(case)
            own = self._outputs(model, case.inputs)
            stateful = is_changed(model, case.weights) or bool(self._moved_attributes(model, case))
            del model  # there may be no room for it beside the one in float64
            if not own or any(mine.is_complex() for _, mine in own):
                what = "complex numbers, which cannot be compared" if own else "no tensor"
                raise InadmissibleProblem(f"the reference returns {what}")
            paths, forms = [path for path, _ in own], [torch.empty_like(mine, device="meta") for _, mine in own]
            values = self._wide_outputs(case, forms) or [mine for _, mine in own]
            widened = any(value.dtype != form.dtype for value, form in zip(values, forms, strict=True))
            doubles = all(form.dtype in _EXACT_DTYPES or not form.is_floating_point() for form in forms)
            tolerance = self._problem.tolerance
            bounds = [Bounds(mine, value, tolerance) for (_, mine), value in zip(own, values, strict=True)]
            del own, values
            self._admit_rounding(case, forms, bounds)
            if precision != "ieee":
                self._admit_reduced(case, forms, bounds, precision=precision)
            expected = tuple(
                bound.expected(path, recompute=functools.partial(self._values_at, case, forms, at), keep=self._keep)
                for at, (path, bound) in enumerate(zip(paths, bounds, strict=True))
            )
        return replace(case, expected=expected, precision=precision, exact=widened or doubles, stateful=stateful)

    def following(self, case: Case, inputs: Sequence[torch.Tensor]) -> Case:
        """What a second call of the module of `case` meets and must answer: other inputs, on what the first one left in
        the module."""
        with fixed_rng(self._device):
            model = self._fresh(case)
            self._outputs(model, case.inputs)
            weights = {name: t.detach().clone() for name, t in state_of(model).items() if name in case.weights}
            attributes = {name: t.clone() for name, t in self._moved_attributes(model, case).items()}
            del model
        met = replace(case, inputs=tuple(inputs), weights=weights, attributes=attributes, expected=())
        return self.answered(met, precision=case.precision)

    def other_inputs(self, case: Case) -> tuple[torch.Tensor, ...]:
        """Inputs for a second call of the module of `case`, of the problem's own distribution."""
        return self.inputs(case.seed ^ _NEXT_CALL)

    def _values_at(self, case: Case, forms: Sequence[torch.Tensor], at: int) -> torch.Tensor:
        """The values of one output again, as `answered` had them."""
        with fixed_rng(self._device):
            value = (self._wide_outputs(case, forms) or self.run(case))[at]
        return value.to(torch.float64) if value.is_floating_point() else value

    def run(
        self,
        case: Case,
        *,
        inputs: Sequence[torch.Tensor] | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
        under: AbstractContextManager[Any] | None = None,
    ) -> list[torch.Tensor]:
        """The reference's outputs in its declared dtype, once, on the case's inputs and weights or on others. `under`
        is entered around the forward pass."""
        model = self._fresh(case)
        load_weights(model, weights or {})
        return [tensor for _, tensor in self._outputs(model, case.inputs if inputs is None else inputs, under=under)]

    def baseline(self, case: Case) -> Callable[[], Any]:
        """The eager reference in its declared dtype on the inputs and weights of `case`, ready to be called again and
        again."""
        with fixed_rng(self._device):
            model = self._fresh(case)
        arguments = self._arguments(list(case.inputs))

        def call() -> Any:
            with torch.no_grad():
                return model(*arguments)

        return call

    def _fresh(self, case: Case) -> torch.nn.Module:
        """A module of its own with the weights of `case`."""
        model = copy.deepcopy(self._model(case.seed, on_device=case.matched))
        load_weights(model, case.weights)
        load_attributes(model, case.attributes)
        return model

    def _moved_attributes(self, model: torch.nn.Module, case: Case) -> dict[str, torch.Tensor]:
        return moved_attributes(model, self._model(case.seed, on_device=case.matched))

    def _model(self, seed: int, *, on_device: bool) -> torch.nn.Module:
        """The module as `seed` makes it, on the device; not to be changed."""
        key = (seed, on_device)
        if key not in self._models:
            self._models[key] = self._construct(seed, on_device=on_device)
            while len(self._models) > 1 and self.kept_bytes > _MODEL_BYTES:
                self._models.popitem(last=False)
        return self._models[key]

    def _construct(self, seed: int, *, on_device: bool) -> torch.nn.Module:
        """Draws on the CPU, so that the numbers are those that `execute.initialise` draws for a candidate; straight on
        the device, which is far faster, where no candidate draws any (`on_device`) and the constructor allows it."""
        if on_device and self._device.type != "cpu":
            seed_torch(seed)
            try:
                with torch.device(self._device):
                    model = construct(self._module.Model, self._init_inputs())
                if not has_loose_tensors(model):
                    return moved_to(model, self._device)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # noqa: BLE001  a constructor that insists on the CPU is served there
                pass
        seed_torch(seed)
        try:
            model = construct(self._module.Model, self._init_inputs())
        except Exception as error:
            raise InadmissibleProblem(f"the reference cannot be constructed: {last_line(error)}") from error
        return moved_to(model, self._device)

    def _init_inputs(self) -> Any:
        state = torch.get_rng_state()
        init_inputs = self._module.get_init_inputs()
        torch.set_rng_state(state)
        return init_inputs

    def module(self, seed: int) -> torch.nn.Module:
        """A module of the caller's own with weights that `seed` draws, as a case whose weights are all matched has
        them, for timing."""
        with fixed_rng(self._device):
            return self._construct(seed, on_device=True)

    def arguments(self, inputs: Sequence[torch.Tensor]) -> Any:
        """What the module is called with, around these tensors."""
        return self._arguments(inputs)

    def inputs(self, seed: int, *, kind: str = "given") -> tuple[torch.Tensor, ...]:
        """Inputs alone: of the problem's own distribution, for timing, or of a kind of stress."""
        with fixed_rng(self._device):
            given = self._inputs(seed)
            return tuple(given if kind == "given" else (stressed(kind, t, seed=seed) for t in given))

    def constructed(self, case: Case) -> Mapping[str, torch.Tensor]:
        """The parameters and buffers as construction draws them for `case`, before any stress. Not to be changed."""
        with fixed_rng(self._device):
            return state_of(self._model(case.seed, on_device=case.matched))

    def _inputs(self, seed: int) -> list[torch.Tensor]:
        seed_torch(seed ^ 0x5EED)
        try:
            with torch.device(self._device):
                made = self._module.get_inputs()
        except torch.OutOfMemoryError:  # there may be room once others are gone
            raise
        except Exception as error:
            raise InadmissibleProblem(f"get_inputs fails: {last_line(error)}") from error
        leaves = [tensor.to(self._device) for _, tensor in tensors_in(made)]
        counter = iter(range(len(leaves)))
        if to_tree(made, lambda _: next(counter)) != self._spec["inputs"]:
            raise InadmissibleProblem("get_inputs gives other scalars or another structure from one call to the next")
        for leaf, (_, shape, _stride) in zip(leaves, self._spec["tensors"], strict=False):
            if list(leaf.shape) != shape:
                raise InadmissibleProblem("get_inputs gives other shapes from one call to the next")
        return leaves

    def _arguments(self, tensors: Sequence[torch.Tensor]) -> Any:
        return from_tree(self._spec["inputs"], lambda i: tensors[i], device=self._device)

    def _outputs(
        self,
        model: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        *,
        under: AbstractContextManager[Any] | None = None,
    ) -> list[tuple[str, torch.Tensor]]:
        arguments = self._arguments([t.clone() for t in inputs])
        try:
            with torch.no_grad(), DeviceAsserts(), under or nullcontext():  # type: ignore[no-untyped-call]
                return tensors_in(model(*arguments))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise InadmissibleProblem(f"the reference fails: {last_line(error)}") from error

    def _wide_outputs(
        self, case: Case, forms: Sequence[torch.Tensor], *, scratch: bool = False
    ) -> list[torch.Tensor] | None:
        """The float64 answer; None where the reference insists on a dtype, or float64 does not fit and it may narrow.

        `forms` have the shapes of the answer in the declared dtype. The reference may write to the inputs if they are
        `scratch`. Raises torch.OutOfMemoryError unless this reference may narrow.
        """
        try:
            with torch.no_grad(), DeviceAsserts():  # type: ignore[no-untyped-call]
                kept = not scratch
                wide = [t.to(torch.float64, copy=kept) if t.is_floating_point() else t.clone() for t in case.inputs]
                exact = [t for _, t in tensors_in(self._fresh(case).double()(*self._arguments(wide)))]
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError) and not self._may_narrow:
                raise
            return None
        return exact if [t.shape for t in exact] == [form.shape for form in forms] else None

    def _admit_rounding(self, case: Case, forms: Sequence[torch.Tensor], bounds: Sequence[Bounds]) -> None:
        """Room for the float64 answer with each element of the inputs one rounding up or down: what no kernel can help.

        The rounding is that of the input's dtype or of the output's, whichever is finer: half-precision inputs are
        exact to who computes in single precision, as a single-precision output asks for. An output of few elements is
        answered several times: a sum near zero may come out nearly unmoved by luck, and its bound with it, while
        another kernel's error may be large by luck.
        """
        by_steps: dict[tuple[float, ...], list[int]] = {}
        for at, form in enumerate(forms):
            by_steps.setdefault(tuple(min(rounding(t), rounding(form)) for t in case.inputs), []).append(at)
        for steps, outputs in by_steps.items():
            fewest = min(max(forms[at].numel(), 1) for at in outputs)
            for turn in range(min(_MAX_MOVES, math.ceil(FEW_ELEMENTS / fewest))):
                moves = move_seed(case.seed, turn)
                if (found := self._moved_outputs(case, forms, steps=steps, seed=moves)) is None:
                    break
                for at in outputs:
                    bounds[at].admit_moved(found[at])
                del found  # before the next ones are made

    def _admit_reduced(
        self, case: Case, forms: Sequence[torch.Tensor], bounds: Sequence[Bounds], *, precision: str
    ) -> None:
        """Room for the float64 answer with contractions in `precision`. A reference without any is taken to be one that
        a kernel may write as a contraction: inputs and weights are moved by that precision's rounding instead."""

        def inputs_moved() -> list[torch.Tensor] | None:
            weights = {name: moved(t, seed=case.seed, step=ROUNDING).to(t.dtype) for name, t in case.weights.items()}
            steps = [ROUNDING] * len(case.inputs)
            return self._moved_outputs(replace(case, weights=weights), forms, steps=steps, seed=case.seed)

        found = reduced(precision, lambda: self._wide_outputs(case, forms), inputs_moved, seed=case.seed)
        for bound, answer in zip(bounds, found or (), strict=found is not None):
            bound.admit_reduced(answer)

    def _moved_outputs(
        self, case: Case, forms: Sequence[torch.Tensor], *, steps: Sequence[float], seed: int
    ) -> list[torch.Tensor] | None:
        """The float64 answer with the inputs moved by these relative steps, up or down as `seed` has it."""
        try:
            inputs = tuple(moved(t, seed=seed, step=by) for t, by in zip(case.inputs, steps, strict=True))
        except torch.OutOfMemoryError:
            if not self._may_narrow:
                raise
            return None
        return self._wide_outputs(replace(case, inputs=inputs), forms, scratch=True)


# Nothing is wider.
_EXACT_DTYPES = (torch.float64, torch.complex128)
