"""Finds a function that a candidate calls by a name it never gave, where what it means is sure.

Outside of kernels alone: of a kernel's names the compiler tells. Sure is a name that nothing binds, called with as many
arguments as exactly one function of the file takes, which nothing in the file mentions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sandbox.missing_imports import ASSIGNMENTS, IMPORTS, unbound_names
from sandbox.spans import Spans
from sandbox.types import Finding

RULE = "undefined_helper"
_ENTRIES = ("get_inputs", "get_init_inputs")  # of a problem's form: called from outside


def undefined_helpers(tree: ast.Module, spans: Spans) -> Iterator[Finding]:
    """One finding a call; none where several such names are called, since each might mean the function."""
    kernels = {id(node) for each in _functions(tree) if each.decorator_list for node in ast.walk(each)}
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and id(node) not in kernels
    ]
    unbound = set(unbound_names(spans.source, tree)) - IMPORTS.keys() - ASSIGNMENTS.keys()
    wrong = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in unbound]
    if len({call.func.id for call in wrong if isinstance(call.func, ast.Name)}) != 1:
        return
    mentioned = set(_ENTRIES) | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    mentioned |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    functions = [each for each in _functions(tree) if not each.decorator_list and each.name not in mentioned]
    fitting = [
        each for each in functions if all(_takes(each.args, call) for call in wrong) and not _within(each, wrong)
    ]
    if len(fitting) != 1:
        return
    for call in wrong:
        assert isinstance(call.func, ast.Name)
        message = f"{call.func.id} is called and never defined; {fitting[0].name} is defined and never called"
        yield spans.finding(RULE, call.func, instead=fitting[0].name, message=message)


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _within(function: ast.FunctionDef, calls: list[ast.Call]) -> bool:
    """Whether all the calls are its own: one that only calls itself would never be called."""
    own = {id(node) for node in ast.walk(function)}
    return all(id(call) in own for call in calls)


def _takes(arguments: ast.arguments, call: ast.Call) -> bool:
    """Whether a function can be called so, as far as the numbers and names of arguments tell."""
    if any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords):
        return False
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    alone = [each.arg for each in arguments.kwonlyargs]
    named = {each.arg for each in call.keywords}
    if len(call.args) > len(positional) and arguments.vararg is None:
        return False
    given = set(positional[: len(call.args)])
    by_name = {*positional[len(arguments.posonlyargs) :], *alone}
    needed = {*positional[: len(positional) - len(arguments.defaults)]}
    needed |= {name for name, default in zip(alone, arguments.kw_defaults, strict=True) if default is None}
    return not named & given and (named <= by_name or arguments.kwarg is not None) and needed <= given | named
