"""Puts kernels that we compiled in the place of those in a plan: what runs is what its text says.

The trusted half; `compile_kernels.py` is the child's. Equal kernels are compiled once (`kernel_store.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox import wire
from sandbox.kernel_recipe import recipe_key, recipe_of
from sandbox.kernel_store import CompiledKernel, KernelStore
from sandbox.plan import AtenStep, ChoiceStep, LaunchStep, Plan, Step, flat_steps
from sandbox.plan_check import validate
from sandbox.types import Failure, Status
from sandbox.zygote import ChildOutcome, SandboxError


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a plan's kernels cannot be compiled from what the plan says of them."""

    status: Status
    failure: Failure


def launched_only(plan: Plan, *, capability: int) -> tuple[Plan, list[str]]:
    """The plan with the kernels that it launches, each once, in the order of their first launch; and their keys."""
    keys = [recipe_key(recipe_of(kernel, capability=capability)) for kernel in plan.kernels]
    order: dict[str, int] = {}
    for step in flat_steps(plan):
        if isinstance(step, LaunchStep):
            order.setdefault(keys[step.kernel], len(order))

    def renumbered(step: Any) -> Any:
        match step:
            case AtenStep():
                return step
            case LaunchStep():
                return dataclasses.replace(step, kernel=order[keys[step.kernel]])
            case ChoiceStep():
                inner = tuple(tuple(map(renumbered, alternative)) for alternative in step.alternatives)
                return dataclasses.replace(step, alternatives=inner)

    kernels = tuple(plan.kernels[keys.index(key)] for key in order)
    steps: tuple[Step, ...] = tuple(map(renumbered, plan.steps))
    return dataclasses.replace(plan, kernels=kernels, steps=steps), list(order)


def with_clean_kernels(
    plan: Plan, *, capability: int, store: KernelStore, compile_recipes: Callable[[bytes], ChildOutcome]
) -> tuple[Plan | Refused, ChildOutcome | None]:
    """The plan with kernels compiled from their recipes for `capability`, or why not; and how the child that
    `compile_recipes` ran ended, if one was needed.

    Raises SandboxError if the child gives nonsense.
    """
    plan, keys = launched_only(plan, capability=capability)
    found = {key: kernel for key in keys if (kernel := store.get(key)) is not None}
    missing = [position for position, key in enumerate(keys) if key not in found]
    outcome = None
    if missing:
        recipes = [recipe_of(plan.kernels[position], capability=capability) for position in missing]
        outcome = compile_recipes(wire.pack({"recipes": recipes}))
        answer = _read(outcome, [plan.kernels[position].name for position in missing])
        if isinstance(answer, Refused):
            return answer, outcome
        for position, kernel in zip(missing, answer, strict=True):
            store.put(keys[position], kernel)
            found[keys[position]] = kernel
    kernels = (
        found[key].put_into(kernel, capability=capability) for key, kernel in zip(keys, plan.kernels, strict=True)
    )
    clean = dataclasses.replace(plan, kernels=tuple(kernels))
    validate(clean)  # what came of a kernel has bounds too: shared memory, scratch
    return clean, outcome


def _read(outcome: ChildOutcome, names: list[str]) -> list[CompiledKernel] | Refused:
    """The compiled kernels in a child's result, or what it or its end says against them."""
    if outcome.result is None:
        return _ended(outcome)
    try:
        body, blobs = wire.unpack(outcome.result)
        if "failure" in body:
            kind, error_class, message = body["failure"]
            name = names[body["kernel"]]
            if kind == "unknown":
                message = f"kernel {name} cannot be checked on any machine: {message}"
                failure = Failure(error_class="KernelNames", message=message)
                return Refused(status=Status.UNVERIFIED, failure=failure)
            message = f"kernel {name} does not compile from its text: {error_class}: {message}"
            return Refused(status=Status.REJECTED, failure=Failure(error_class="KernelText", message=message))
        pairs = zip(body["kernels"], blobs, strict=True)
        kernels = [CompiledKernel(cubin=bytes(cubin), figures=figures) for figures, cubin in pairs]
        if len(kernels) != len(names):
            raise ValueError(f"{len(kernels)} kernels for {len(names)}")
    except (ValueError, LookupError, TypeError) as error:
        raise SandboxError(f"the compile child gives nonsense: {str(error)[:200]}") from error
    return kernels


def _ended(outcome: ChildOutcome) -> Refused:
    if outcome.out_of_memory:
        message = "compiling its kernels took more memory than the limit"
        return Refused(status=Status.OUT_OF_MEMORY, failure=Failure(error_class="OutOfMemory", message=message))
    if outcome.timed_out:
        message = f"compiling its kernels did not end within the time limit ({outcome.wall_seconds:.0f} s)"
        return Refused(status=Status.TIMEOUT, failure=Failure(error_class="Timeout", message=message))
    how = f"signal {outcome.signal}" if outcome.signal is not None else f"exit code {outcome.exit_code}"
    message = f"compiling its kernels ended with {how}"
    return Refused(status=Status.COMPILE_ERROR, failure=Failure(error_class="ProcessEnded", message=message))
