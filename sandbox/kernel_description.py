"""Describes a jitted function as plain data: its text, the texts of the functions that it uses, what their names mean.

Runs in the trace child, beside the candidate; what it gives is hostile data to its reader, `kernel_source.py`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from collections.abc import Callable
from typing import Any

from sandbox.kernel_source import DEFAULT, INLINE_LIBRARIES, MODULES, global_names, normalised
from sandbox.syntax import parse


class Description:
    """Texts and name meanings of a JITFunction and of every jitted function of the candidate's own that it uses.

    Functions go by their own names; a second function of the same name gets another one.
    """

    def __init__(self, function: Any) -> None:
        self.functions: dict[str, str] = {}
        self.names: dict[str, dict[str, Any]] = {}
        self.noinline: list[str] = []
        self._key_of: dict[int, str] = {}
        self._todo: list[tuple[str, Any]] = []
        self._key(function)
        self._describe_all()

    def meaning(self, item: Any) -> dict[str, Any] | None:
        """What `item` means, with the functions in it described too."""
        found = describe_name(item, self._key)
        self._describe_all()
        return found

    def _key(self, jitted: Any) -> str:
        if id(jitted) not in self._key_of:
            name, count = str(jitted.__name__), 1
            while name in self._key_of.values():
                count += 1
                name = f"{jitted.__name__}_{count}"
            self._key_of[id(jitted)] = name
            self._todo.append((name, jitted))
        return self._key_of[id(jitted)]

    def _describe_all(self) -> None:
        while self._todo:
            key, jitted = self._todo.pop()
            self.functions[key] = text = _renamed(normalised(jitted.src), key)
            if jitted.noinline:
                self.noinline.append(key)
            scope = {**jitted.fn.__globals__, **_closure(jitted.fn)}
            found: dict[str, Any] = {}
            for used in sorted(global_names(text) & set(scope)):
                found[used] = describe_name(scope[used], self._key)
            for name, parameter in inspect.signature(jitted.fn).parameters.items():
                if parameter.default is not parameter.empty:
                    found[DEFAULT + name] = describe_name(parameter.default, self._key)
            used_defaults = {node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)}
            self.names[key] = {
                name: meaning
                for name, meaning in found.items()
                if meaning is not None and (not name.startswith(DEFAULT) or name in used_defaults)
            }


def _renamed(text: str, name: str) -> str:
    parsed = parse(text)
    assert isinstance(parsed.body[0], ast.FunctionDef)
    parsed.body[0].name = name
    return ast.unparse(parsed)


def _closure(function: Any) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}


def describe_name(item: Any, key_of: Callable[[Any], str]) -> dict[str, Any] | None:
    """The meaning of one global or constant of a kernel as plain data, or None where it has none. `key_of` names the
    candidate's own jitted functions."""
    from triton.language import constexpr, dtype
    from triton.runtime.jit import JITFunction

    if isinstance(item, constexpr):
        inner = describe_name(item.value, key_of)
        return None if inner is None else {"constexpr": inner}
    if isinstance(item, dtype):
        return {"dtype": str(item)}
    if item is None or isinstance(item, bool | int | float | str):
        return {"value": item if not isinstance(item, float) else repr(item), "kind": type(item).__name__}
    if isinstance(item, list | tuple):
        inner_items = [describe_name(i, key_of) for i in item]
        return None if any(i is None for i in inner_items) else {"tuple": inner_items}
    if isinstance(item, types.ModuleType):
        return {"module": item.__name__} if item.__name__ in MODULES else None
    module, name = getattr(item, "__module__", None) or "", getattr(item, "__name__", "")
    if isinstance(item, JITFunction) and not module.startswith(INLINE_LIBRARIES):
        return {"function": key_of(item)}
    for public in MODULES:
        if getattr(importlib.import_module(public), name, None) is item:
            return {"attribute": [public, name]}
    return None
