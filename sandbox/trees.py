"""Arguments and outputs of operators as JSON trees, and back.

Plain JSON stands for itself; what JSON lacks is a one-key object: {"tensor": value index}, {"float": "inf"}, {"dtype":
"float32"},
{"device": "cuda"}, {"layout": ..}, {"memory_format": ..}, {"complex": [re, im]}, {"tuple": [..]}, {"dict": [[key,
tree], ..]}. Does not know what the operators do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

_LAYOUTS = {"strided": torch.strided}
_MEMORY_FORMATS = {
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}


class TreeError(ValueError):
    """An argument has no form in a plan, or a tree is malformed."""


def dtype_name(dtype: torch.dtype) -> str:
    """The dtype without its module: "float32"."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """The inverse of `dtype_name`. Raises TreeError on anything else."""
    dtype = getattr(torch, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not isinstance(dtype, torch.dtype):
        raise TreeError(f"unknown dtype {name!r}")
    return dtype


def to_tree(item: Any, tensor: Callable[[torch.Tensor], int]) -> Any:
    """The tree of `item`; `tensor` gives the value index of each tensor met. Raises TreeError where there is no
    form."""
    match item:
        case None | bool() | int() | str():
            return item
        case float():
            return item if math.isfinite(item) else {"float": repr(item)}
        case complex():
            return {"complex": [item.real, item.imag]}
        case torch.Tensor():
            return {"tensor": tensor(item)}
        case torch.dtype():
            return {"dtype": dtype_name(item)}
        case torch.device():
            return {"device": item.type}
        case torch.layout():
            return {"layout": str(item).removeprefix("torch.")}
        case torch.memory_format():
            return {"memory_format": str(item).removeprefix("torch.")}
        case tuple():
            return {"tuple": [to_tree(i, tensor) for i in item]}
        case list():
            return [to_tree(i, tensor) for i in item]
        case Mapping():
            return {"dict": [[str(k), to_tree(v, tensor)] for k, v in item.items()]}
        case _:
            raise TreeError(f"a {type(item).__name__} has no form in a plan")


def from_tree(tree: Any, tensor: Callable[[int], torch.Tensor], *, device: torch.device) -> Any:
    """The object that `tree` stands for; `device` replaces every device named in it."""
    if isinstance(tree, list):
        return [from_tree(t, tensor, device=device) for t in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise TreeError("malformed argument")
    ((kind, content),) = tree.items()
    match kind:
        case "tensor":
            return tensor(content)
        case "float":
            return float(content)
        case "complex":
            return complex(*content)
        case "dtype":
            return dtype_named(content)
        case "device":
            return device
        case "layout":
            return _LAYOUTS[content]
        case "memory_format":
            return _MEMORY_FORMATS[content]
        case "tuple":
            return tuple(from_tree(t, tensor, device=device) for t in content)
        case "dict":
            return {k: from_tree(v, tensor, device=device) for k, v in content}
        case _:
            raise TreeError(f"unknown argument kind {kind!r}")


def tensors_in(item: Any, *, path: str = "") -> list[tuple[str, torch.Tensor]]:
    """The tensors of nested tuples, lists and dicts, in order, each with its path ("[1]", "['loss']")."""
    if isinstance(item, torch.Tensor):
        return [(path, item)]
    if isinstance(item, tuple | list):
        return [leaf for i, entry in enumerate(item) for leaf in tensors_in(entry, path=f"{path}[{i}]")]
    if isinstance(item, Mapping):
        return [leaf for k, entry in item.items() for leaf in tensors_in(entry, path=f"{path}[{k!r}]")]
    return []
