"""Decides whether the trees in a plan are well formed: arguments and outputs, and what a kernel's names mean.

Each has one strict grammar, what `trees.to_tree` and `kernel_source.describe_name` write, so that no two readers can
take one tree for two things. Knows neither torch nor triton; whether an operator takes such arguments is not decided
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.plan import MAX_TREE_DEPTH, PlanError

_MAX_NODES = 100_000
_MAX_TEXT_CHARS = 16_384
_MAX_NAME_CHARS = 512
_MAX_INTEGER = 1 << 64


def check_tree(tree: Any, *, num_values: int, what: str) -> None:
    """Raises PlanError unless `tree` is a tree of arguments or outputs whose tensors are indices below
    `num_values`."""
    _check(tree, lambda item: _below(item, num_values), what)


def check_meaning(meaning: Any) -> None:
    """Raises PlanError unless `meaning` is what a kernel's global name or compile-time constant can mean."""
    _check(meaning, _below_meaning, "the meaning of a kernel's name")


def is_name(raw: Any) -> bool:
    """Whether `raw` is an identifier of bearable length."""
    return isinstance(raw, str) and len(raw) <= _MAX_NAME_CHARS and raw.isidentifier()


def _check(tree: Any, below: Callable[[Any], Iterable[Any] | None], what: str) -> None:
    """Visits every node; `below` gives those under one, or None where it is malformed. Never recurses."""
    level, num_nodes = [tree], 0
    for _ in range(MAX_TREE_DEPTH + 1):
        num_nodes += len(level)
        if num_nodes > _MAX_NODES:
            raise PlanError(f"{what}: more than {_MAX_NODES} items")
        following: list[Any] = []
        for item in level:
            inner = below(item)
            if inner is None:
                raise PlanError(f"{what}: malformed")
            following.extend(inner)
        if not following:
            return
        level = following
    raise PlanError(f"{what}: nested too deeply")


def _is_scalar(item: Any) -> bool:
    match item:
        case None | bool():
            return True
        case int():
            return abs(item) <= _MAX_INTEGER
        case float():
            return math.isfinite(item)
        case str():
            return len(item) <= _MAX_TEXT_CHARS
        case _:
            return False


def _below(item: Any, num_values: int) -> Iterable[Any] | None:
    match item:
        case list():
            return item
        case dict() if len(item) == 1:
            ((tag, content),) = item.items()
            return _below_tag(tag, content, num_values)
        case _:
            return () if _is_scalar(item) else None


def _below_tag(tag: str, content: Any, num_values: int) -> Iterable[Any] | None:
    match tag, content:
        case "tensor", _:
            if type(content) is not int or not 0 <= content < num_values:
                raise PlanError(f"tensor {content!r:.40} is not an index below {num_values}")
            return ()
        case "float", "inf" | "-inf" | "nan":
            return ()
        case "complex", [int() | float(), int() | float()] if all(map(_is_scalar, content)):
            return ()
        case "dtype" | "device" | "layout" | "memory_format", str():
            return () if is_name(content) else None
        case "tuple", list():
            return content
        case "dict", list():
            return _below_dict(content)
        case _:
            return None


def _below_dict(pairs: list[Any]) -> Iterable[Any] | None:
    keys = set()
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or not _is_scalar(pair[0]):
            return None
        keys.add(pair[0])
    return [value for _, value in pairs] if len(keys) == len(pairs) else None


def _below_meaning(item: Any) -> Iterable[Any] | None:
    if not isinstance(item, dict) or not 1 <= len(item) <= 2:
        return None
    match tuple(sorted(item.items())):
        case (("constexpr", inner),):
            return (inner,)
        case (("tuple", list(items)),):
            return items
        case (("dtype" | "module" | "function", str(name)),) if len(name) <= _MAX_NAME_CHARS:
            return ()
        case (("attribute", [str(module), str(name)]),) if max(len(module), len(name)) <= _MAX_NAME_CHARS:
            return ()
        case (("kind", str(kind)), ("value", value)) if is_name(kind) and _is_scalar(value):
            return () if kind != "float" or _reads_as_float(value) else None
        case _:
            return None


def _reads_as_float(raw: Any) -> bool:
    try:
        float(raw)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
