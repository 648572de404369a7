"""What a module holds by name: parameters, buffers and plain attributes, read and written. Knows nothing of problems or
cases."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from sandbox.trees import tensors_in

_TORCH_OWN = ("_parameters", "_buffers", "_modules")  # attributes of a module that torch itself moves


def is_constant(parameter: torch.Tensor) -> bool:
    """Whether construction leaves all elements equal, as biases of zeros and scales of ones are."""
    return parameter.numel() > 0 and bool((parameter == parameter.reshape(-1)[0]).all())


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, the very tensors."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def attributes_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The very tensors that modules hold as plain attributes, as a recurrent one may its hidden state."""
    return {
        f"{path}.{name}" if path else name: value
        for path, part in model.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, torch.Tensor)
    }


def all_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """The very tensors that modules hold, those in lists, tuples and dicts among them."""
    found: dict[int, torch.Tensor] = {}
    seen: dict[int, Any] = {}  # a list may hold itself
    todo: list[Any] = [vars(part) for part in model.modules()]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            found[id(value)] = value
        elif isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple | set | frozenset | deque):
            todo += value
    return list(found.values())


def moved_to(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The module itself, with all that it holds on the device: `Module.to` leaves plain attributes where they are, and
    a call that meets both fails. What is held in two places is moved once."""
    before = state_of(model)  # kept, so that no id is given to another
    after = state_of(model.to(device))
    moved: dict[int, tuple[Any, Any]] = {id(tensor): (tensor, after[name]) for name, tensor in before.items()}
    for part in model.modules():
        for name, value in vars(part).items():
            if name not in _TORCH_OWN:
                vars(part)[name] = _moved(value, device, moved)
    return model


def _moved(value: Any, device: torch.device, moved: dict[int, tuple[Any, Any]]) -> Any:
    """Tensors and plain lists, tuples and dicts of them; anything else as it is. `moved` has, by id, what was met
    before and what became of it."""
    if id(value) in moved:
        return moved[id(value)][1]
    became: Any = value
    if isinstance(value, torch.Tensor):
        became = value.to(device)
    elif type(value) is tuple:
        became = tuple(_moved(item, device, moved) for item in value)
    elif type(value) is list:
        moved[id(value)] = value, (became := [])  # it may hold itself
        became += (_moved(item, device, moved) for item in value)
    elif type(value) is dict:
        moved[id(value)] = value, (became := {})
        became |= {key: _moved(item, device, moved) for key, item in value.items()}
    moved[id(value)] = value, became
    return became


def load_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives the parameters and buffers that `weights` names their values."""
    with torch.no_grad():
        for name, tensor in state_of(model).items():
            if name in weights:
                tensor.copy_(weights[name])


def is_changed(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the module holds anything but `weights`, as one that made a buffer in its forward pass does."""
    found = state_of(model)
    return found.keys() != weights.keys() or any(
        not torch.equal(tensor, weights[name].to(tensor.device)) for name, tensor in found.items()
    )


def moved_attributes(model: torch.nn.Module, before: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Those plain attributes whose values are others than in `before`. One that is made in the forward pass is none."""
    held = attributes_of(before)
    now = {name: t for name, t in attributes_of(model).items() if name in held and _alike(t, held[name])}
    return {name: t for name, t in now.items() if not torch.equal(t, held[name].to(t.device))}


def load_attributes(model: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Gives the plain attributes that `values` names their values."""
    with torch.no_grad():
        for name, tensor in attributes_of(model).items():
            if name in values:
                tensor.copy_(values[name])


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype)


def num_bytes(model: torch.nn.Module) -> int:
    """Of parameters and buffers together."""
    return sum(t.nbytes for t in state_of(model).values())


def has_loose_tensors(model: torch.nn.Module) -> bool:
    """Whether some module holds tensors that are neither parameters nor buffers: they have no name to match by."""
    held = [value for part in model.modules() for name, value in vars(part).items() if name not in _TORCH_OWN]
    return any(not isinstance(t, torch.nn.Parameter) for _, t in tensors_in(held))
