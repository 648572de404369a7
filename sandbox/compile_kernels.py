"""Compiles kernels from the recipes in a plan, in a child that never sees the candidate's module.

Runs sandboxed, but what it writes is taken at its word: of the text in a recipe, which is hostile, nothing runs as
Python but the `def` lines of functions whose bodies `kernel_check.py` has let through to Triton's front end.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

from sandbox import wire
from sandbox.cubin import figures_of, has_variables
from sandbox.kernel_source import Functions, SourceError, UnknownName, annotated, build, data_of
from sandbox.precision import dot_kinds, uses_assembly

_LAZY = ("sandbox.kernel_check", "triton.runtime.interpreter")


def warm() -> None:
    """Imports what checking a text needs. `trace.warm` has compiled a kernel in the warm process already."""
    for name in _LAZY:
        importlib.import_module(name)


def run(body: dict[str, Any], _blobs: Any, _scratch: Path) -> bytes:
    """Compiles `body["recipes"]` in order: {"kernels": figures, one a cubin} or {"failure": [kind, class, message],
    "kernel": position} for the first that is refused. The kind is "text", or "unknown" where a text uses what was not
    described."""
    triton.knobs.compilation.disable_line_info = True  # as the trace child does
    # A global is a constant here, and whoever compiled the kernel first has decided that it may be one.
    triton.knobs.compilation.allow_non_constexpr_globals = True
    figures, cubins = [], []
    for position, recipe in enumerate(body["recipes"]):
        try:
            found, cubin = compiled(recipe)
        except UnknownName as error:
            return wire.pack({"failure": ["unknown", type(error).__name__, str(error)], "kernel": position})
        except MemoryError:
            raise  # ends the child
        except Exception as error:  # noqa: BLE001  the outermost frame: Triton's passes raise what they like
            return wire.pack({"failure": ["text", type(error).__name__, _told(error)], "kernel": position})
        figures.append(found)
        cubins.append(cubin)
    return wire.pack({"kernels": figures}, cubins)


def compiled(recipe: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What Triton makes of a recipe: figures named as the fields of `plan.Kernel`, and the cubin. Raises SourceError or
    Triton's errors."""
    functions = Functions(
        recipe["functions"],
        recipe["names"],
        constexprs={recipe["name"]: tuple(recipe["constants"])},
        make=functools.partial(_jitted, noinline=recipe["noinline"]),
    )
    function = functions(recipe["name"])
    kinds = dict(recipe["params"]) | dict.fromkeys(recipe["constants"], "constexpr")
    if set(function.arg_names) != set(kinds):
        raise SourceError("kernel text and parameters differ")
    signature = {name: kinds[name] for name in function.arg_names}
    if [[name, kind] for name, kind in signature.items() if kind != "constexpr"] != [list(p) for p in recipe["params"]]:
        raise SourceError("kernel text has its parameters in another order")
    position = {name: (index,) for index, name in enumerate(function.arg_names)}
    constants = {position[name]: _constant(raw, name, functions) for name, raw in recipe["constants"].items()}
    source = triton.compiler.ASTSource(
        fn=function,
        signature=signature,
        constexprs=constants,
        attrs={position[name]: [["tt.divisibility", 16]] for name in recipe["divisible"]},
    )
    target = GPUTarget("cuda", recipe["capability"], 32)
    made = triton.compile(source, target=target, options=dict(recipe["options"]))
    cubin = bytes(made.asm["cubin"])
    ttir = str(made.asm["ttir"])
    if has_variables(cubin, assembly=uses_assembly(ttir)):
        raise SourceError("inline assembly declares variables, which would outlive a launch")
    figures = figures_of(made.metadata, cubin, kinds=[kind for _, kind in recipe["params"]])
    return figures | {"dots": list(dot_kinds(ttir, str(made.asm["ptx"])))}, cubin


_serial = itertools.count()


def _jitted(text: str, name: str, scope: dict[str, Any], *, noinline: list[str]) -> Any:
    text, meanings = annotated(text)
    scope |= meanings | {"__name__": "candidate"}  # Triton asks for a function's module
    # One file name a text: functions of one name in several kernels must not read each other's.
    function = build(text, name=name, filename=f"<kernel {name} {next(_serial)}>", scope=scope)
    return triton.jit(function, noinline=name in noinline)


def _constant(raw: Any, name: str, functions: Functions) -> Any:
    if raw is None or "attribute" in raw:
        raise UnknownName(f"the compile-time constant {name} has no plain form")
    return data_of(raw, functions)


def _told(error: Exception) -> str:
    """The line of an error that says most; Triton's own errors lie in one another."""
    while isinstance(error, triton.compiler.errors.CompilationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = (getattr(error, "error_message", None) or str(error)).strip()
    return text.splitlines()[-1].strip()[:400] if text else type(error).__name__
