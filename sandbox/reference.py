"""A problem's PyTorch answer: secret inputs, weights, the float64 result and the bounds around it.

Runs on the judge's side, once per problem and seed; no candidate code is ever in this process. The problem's source is
the user's own and is trusted. Does not know what a candidate or a plan is.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sandbox.compare import Expected, compare, expect
from sandbox.describe import construct
from sandbox.trees import tensors_in, to_tree
from sandbox.types import Problem


class InadmissibleProblem(ValueError):
    """The problem cannot be judged: its own reference does not stand. The message says why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of secret inputs and what must come of it.

    `kind` is "given" (the problem's own distribution) or "stress". `hidden` names the parameters that construction
    makes constant and that no case varies: whether a candidate applies them cannot be seen.
    """

    seed: int
    kind: str
    inputs: tuple[torch.Tensor, ...]
    weights: Mapping[str, torch.Tensor]
    expected: tuple[Expected, ...]
    hidden: tuple[str, ...] = ()


def matched_precision() -> None:
    """The precision policy "ieee" for this process: no TF32, no reduced-precision accumulation."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class Reference:
    """One problem on one device. Raises InadmissibleProblem wherever its own code does not hold up."""

    def __init__(self, problem: Problem, *, spec: Mapping[str, Any], device: torch.device) -> None:
        self._problem, self._spec, self._device = problem, spec, device
        self._module = types.ModuleType(f"problem_{problem.key}")
        try:
            exec(compile(problem.source, problem.origin, "exec"), self._module.__dict__)
        except Exception as error:  # the user's own source may raise anything
            raise InadmissibleProblem(f"the reference does not import: {_one_line(error)}") from error

    def case(self, index: int, *, seed: int, vary: frozenset[str]) -> Case:
        """Case number `index`: every second one is a stress case, if the problem stands one. `seed` fixes inputs and
        weights.

        A stress case moves the weights named in `vary` away from what construction draws: those that the candidate
        takes by name, since no other can follow.
        """
        with _fixed_rng(self._device):
            model = self._model(seed)
            hidden = tuple(name for name, p in model.named_parameters() if name not in vary and _constant(p))
            if index % 2 == 1:
                stressed = self._stress_case(seed, vary=vary)
                if stressed is not None:
                    return replace(stressed, hidden=hidden)
            return replace(self._case("given", seed, model, self._inputs(seed)), hidden=hidden)

    def baseline(self, case: Case) -> Callable[[], Any]:
        """The eager reference in its declared dtype on the inputs and weights of `case`, ready to be called again and
        again."""
        model = self._model(case.seed)
        _load_weights(model, case.weights)
        arguments = self._arguments(list(case.inputs))

        def call() -> Any:
            with torch.no_grad():
                return model(*arguments)

        return call

    def _model(self, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        try:
            # On the CPU, so that the numbers drawn are those that `execute.initialise` draws for a candidate.
            model = construct(self._module.Model, self._init_inputs())
        except Exception as error:
            raise InadmissibleProblem(f"the reference cannot be constructed: {_one_line(error)}") from error
        return model.to(self._device)

    def _init_inputs(self) -> Any:
        state = torch.get_rng_state()
        init_inputs = self._module.get_init_inputs()
        torch.set_rng_state(state)
        return init_inputs

    def module(self, seed: int) -> torch.nn.Module:
        """The module with the weights that `seed` draws, as a case of that seed has them, for timing."""
        with _fixed_rng(self._device):
            return self._model(seed)

    def arguments(self, inputs: Sequence[torch.Tensor]) -> Any:
        """What the module is called with, around these tensors."""
        return self._arguments(inputs)

    def inputs(self, seed: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the problem's own distribution alone, for timing."""
        with _fixed_rng(self._device):
            return tuple(self._inputs(seed))

    def _inputs(self, seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed ^ 0x5EED)
        try:
            with torch.device(self._device):
                made = self._module.get_inputs()
        except Exception as error:
            raise InadmissibleProblem(f"get_inputs fails: {_one_line(error)}") from error
        leaves = [tensor.to(self._device) for _, tensor in tensors_in(made)]
        counter = iter(range(len(leaves)))
        if to_tree(made, lambda _: next(counter)) != self._spec["inputs"]:
            raise InadmissibleProblem("get_inputs gives other scalars or another structure from one call to the next")
        for leaf, (_, shape, _stride) in zip(leaves, self._spec["tensors"], strict=False):
            if list(leaf.shape) != shape:
                raise InadmissibleProblem("get_inputs gives other shapes from one call to the next")
        return leaves

    def _arguments(self, tensors: Sequence[torch.Tensor]) -> Any:
        from sandbox.trees import from_tree

        return from_tree(self._spec["inputs"], lambda i: tensors[i], device=self._device)

    def _case(self, kind: str, seed: int, model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Case:
        weights = {name: t.detach().to("cpu", copy=True) for name, t in _state(model).items()}
        own = self._outputs(copy.deepcopy(model), inputs)
        exact = self._exact_outputs(model, inputs, own)
        moved = self._exact_outputs(model, [_moved(t, seed=seed) for t in inputs], own)
        expected = []
        for at, ((path, mine), (_, value), (_, other)) in enumerate(zip(own, exact, moved, strict=True)):

            def recompute(at: int = at) -> torch.Tensor:
                again: torch.Tensor = self._exact_outputs(model, inputs, None)[at][1]
                return again.to(torch.float64) if again.is_floating_point() else again

            expected.append(expect(path, value, (mine, other), self._problem.tolerance, recompute=recompute))
        if not expected:
            raise InadmissibleProblem("the reference returns no tensor")
        return Case(seed=seed, kind=kind, inputs=tuple(inputs), weights=weights, expected=tuple(expected))

    def _outputs(self, model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        try:
            with torch.no_grad():
                return tensors_in(model(*self._arguments([t.clone() for t in inputs])))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise InadmissibleProblem(f"the reference fails: {_one_line(error)}") from error

    def _exact_outputs(
        self, model: torch.nn.Module, inputs: Sequence[torch.Tensor], own: list[Any] | None
    ) -> list[Any]:
        """The float64 answer; where the reference insists on a dtype or float64 does not fit, its own in that dtype.

        `own` is that answer if it is known already.
        """
        try:
            with torch.no_grad():
                wide = [t.double() if t.is_floating_point() else t for t in inputs]
                exact = tensors_in(copy.deepcopy(model).double()(*self._arguments(wide)))
        except (RuntimeError, TypeError, ValueError):
            exact = []
        if own is None:
            own = exact or self._outputs(copy.deepcopy(model), inputs)
        same = len(exact) == len(own) and all(a.shape == b.shape for (_, a), (_, b) in zip(exact, own, strict=True))
        return exact if same else own

    def _stress_case(self, seed: int, *, vary: frozenset[str]) -> Case | None:
        """Inputs with other signs and scales and weights away from their defaults, or None where the reference turns
        non-finite."""
        model, inputs = self._model(seed), self._inputs(seed)
        _vary(model, vary, seed=seed, device=self._device)
        for stress in (_with_outliers, _centred, _scaled):
            stressed = [_applied(stress, t, seed=seed) for t in inputs]
            try:
                case = self._case("stress", seed, model, stressed)
            except InadmissibleProblem:
                continue
            if all(expected.all_finite for expected in case.expected):
                return case
        return None


def _vary(model: torch.nn.Module, names: frozenset[str], *, seed: int, device: torch.device) -> None:
    """Moves parameters and buffers off their defaults: a bias of zeros or a scale of ones hides that nobody applies
    it."""
    generator = torch.Generator(device).manual_seed(seed ^ 0xA11)

    def noise(t: torch.Tensor) -> torch.Tensor:
        return torch.randn(t.shape, generator=generator, device=device, dtype=torch.float32)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and name in names:
                step = 0.1 * parameter.float().std(correction=0) + 0.05
                parameter.add_((noise(parameter) * step).to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if (
                buffer.is_floating_point() and name in names
            ):  # variances stay positive, masks of zeros and ones nearly so
                scaled = buffer.float() * (1.0 + 0.1 * noise(buffer).abs())
                buffer.copy_(scaled.to(buffer.dtype))


def _moved(t: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Each element one rounding up or down in its dtype, in float64: what an answer to these inputs cannot help."""
    if not t.is_floating_point():
        return t
    generator = torch.Generator(t.device).manual_seed(seed ^ 0xE95)
    sign = torch.randint(0, 2, t.shape, generator=generator, device=t.device, dtype=torch.int8)
    return t.double() * (1.0 + (sign * 2 - 1) * (torch.finfo(t.dtype).eps / 2))


def _applied(stress: Callable[[torch.Tensor, int], torch.Tensor], t: torch.Tensor, *, seed: int) -> torch.Tensor:
    """`stress` on the elements that `t` has in memory; what was expanded stays so."""
    dense = t
    for dim, step in enumerate(t.stride()):
        if step == 0 and t.shape[dim] > 1:
            dense = dense.narrow(dim, 0, 1)
    return stress(dense, seed).expand(t.shape)


def _centred(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """Both signs and four times the spread: makes ReLU, clamps and absolute values visible on `torch.rand` inputs.

    A fifth of the mean stays, since a sum that is all cancellation would have no accurate answer.
    """
    if not t.is_floating_point() or t.numel() == 0:
        return t
    return ((t - 0.8 * t.float().mean().to(t.dtype)) * 4.0).to(t.dtype)


def _with_outliers(t: torch.Tensor, seed: int) -> torch.Tensor:
    """Centred, with zeros, ties and a few large values of both signs: saturation, overflow guards and ends of
    ranges."""
    if not t.is_floating_point() or t.numel() < 64:
        return _centred(t, seed)
    stressed = _centred(t, seed).contiguous().clone()
    generator = torch.Generator(t.device).manual_seed(seed ^ 0x0D0)
    values = torch.tensor([10.0, -10.0, 30.0, -30.0, 100.0, -100.0, 0.0, 0.0, 1.0, 1.0], device=t.device)
    at = torch.randint(0, t.numel(), (len(values),), generator=generator, device=t.device)
    stressed.view(-1)[at] = values.to(t.dtype)
    return stressed


def _scaled(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """The same signs at half the scale, for problems that need positive inputs."""
    return (t * 0.5).to(t.dtype) if t.is_floating_point() else t


def _constant(parameter: torch.Tensor) -> bool:
    """Whether construction leaves all elements equal, as biases of zeros and scales of ones are."""
    return parameter.numel() > 0 and bool((parameter == parameter.reshape(-1)[0]).all())


def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _load_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _state(model).items():
            tensor.copy_(weights[name])


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


class _fixed_rng:
    """Leaves the caller's random state as it was."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


def self_check(reference: Reference, case: Case) -> str | None:
    """Runs the reference in its declared dtype once more on `case`. The reason it does not agree with itself, or
    None."""
    outputs = [tensor for _, tensor in tensors_in(reference.baseline(case)())]
    comparison = compare(outputs, case.expected)
    if comparison.failure is None:
        return None
    return f"the reference does not agree with itself: {comparison.failure.message}"
