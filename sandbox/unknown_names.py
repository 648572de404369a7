"""Finds names in a candidate's text that the modules they are asked of do not have, without running anything.

Knows which names there are from a table (`name_table.py`) and nothing of torch or triton itself. In doubt it finds
nothing: a name that the candidate binds in more than one way, sets itself, or asks for under `try` or `hasattr` is left
alone. What it finds never decides a verdict: code that is not reached does no harm.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NameTable = Mapping[str, Mapping[str, str]]

TL, LIBDEVICE = "triton.language", "triton.language.extra.libdevice"
LIBDEVICES = (LIBDEVICE, "triton.language.extra.cuda.libdevice")
_ASKING = ("hasattr", "getattr", "setattr")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownName:
    """`node` asks `module` for `name`, which it does not have. `call` is the call of the chain of names that it stands
    in, if that is called; `outer` is the next link of the chain, which would ask `name` for something in turn.
    `in_kernel` says that it stands in a jitted function."""

    node: ast.Attribute | ast.alias
    module: str
    name: str
    call: ast.Call | None = None
    outer: ast.Attribute | None = None
    in_kernel: bool = False


class Bindings:
    """What the module-level names of a text stand for: a dotted path where that is sure, else None."""

    def __init__(self, tree: ast.Module, table: NameTable) -> None:
        self._table = table
        self._paths: dict[str, set[str | None]] = {}
        self.unknown_imports: list[UnknownName] = []
        self._read(tree.body, guarded=False)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def path(self, name: str) -> str | None:
        paths = self._paths.get(name, {None})
        return next(iter(paths)) if len(paths) == 1 else None

    def name_of(self, *modules: str) -> str | None:
        """A name that stands for one of `modules`, the first that was bound."""
        return next((name for name in self._paths if self.path(name) in modules), None)

    def _read(self, body: list[ast.stmt], *, guarded: bool) -> None:
        for statement in body:
            match statement:
                case ast.Import(names=aliases):
                    for alias in aliases:
                        bound = alias.asname or alias.name.split(".")[0]
                        self._bind(bound, alias.name if alias.asname else bound)
                case ast.ImportFrom(module=str(module), names=aliases, level=0):
                    for alias in aliases:
                        self._bind(alias.asname or alias.name, self._imported(module, alias, guarded=guarded))
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._bind(name, self._path_of(value))
                case _:
                    for name in stored_names(statement):
                        self._bind(name, None)
                    inside = guarded or isinstance(statement, (ast.Try, ast.If))
                    for field in ("body", "orelse", "finalbody"):
                        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                            self._read(getattr(statement, field, []), guarded=inside)
                    for handler in getattr(statement, "handlers", []):
                        self._read(handler.body, guarded=True)

    def _bind(self, name: str, path: str | None) -> None:
        self._paths.setdefault(name, set()).add(path)

    def _imported(self, module: str, alias: ast.alias, *, guarded: bool) -> str | None:
        path = f"{module}.{alias.name}"
        if module not in self._table:
            return path
        if alias.name in self._table[module]:
            return self._table[module][alias.name] or path
        if path in self._table or alias.name == "*":
            return path
        if not guarded:
            self.unknown_imports.append(UnknownName(node=alias, module=module, name=alias.name))
        return None

    def _path_of(self, value: ast.expr) -> str | None:
        chain = chain_of(value)
        if chain is None or (path := self.path(chain[0])) is None:
            return None
        for attribute in chain[1:]:
            path = step(path, attribute, self._table) or f"{path}.{attribute}"
        return path


def step(path: str, attribute: str, table: NameTable) -> str | None:
    """The path of an attribute of what `path` names; None where a listed module lacks it."""
    if path not in table:
        return f"{path}.{attribute}"
    if attribute not in table[path]:
        return None
    return table[path][attribute] or f"{path}.{attribute}"


def chain_of(node: ast.expr) -> list[str] | None:
    """["a", "b", "c"] of `a.b.c`; None of anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else None


def stored_names(node: ast.AST) -> set[str]:
    """Names that `node` binds in the scope that it stands in, those of statements in it included."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    found: set[str] = set()
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(inner.name)
        elif isinstance(inner, ast.Lambda):
            continue
        else:
            found |= stored_names(inner)
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            found.add(name)
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        case ast.ExceptHandler(name=str(name)):
            found.add(name)
    return found


def unknown_names(tree: ast.Module, table: NameTable, bindings: Bindings) -> Iterator[UnknownName]:
    """Everything in `tree` that asks a listed module for a name that it does not have, imports first."""
    given = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not _is_load(node)}
    for unknown in (*bindings.unknown_imports, *_Search(table, bindings).over(tree)):
        if unknown.name not in given:
            yield unknown


def _is_load(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Load)


class _Search:
    def __init__(self, table: NameTable, bindings: Bindings) -> None:
        self._table = table
        self._bindings = bindings

    def over(
        self, node: ast.AST, *, local: frozenset[str] = frozenset(), in_kernel: bool = False
    ) -> Iterator[UnknownName]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            in_kernel |= any(map(_is_jit, getattr(node, "decorator_list", ())))
            arguments = node.args
            local |= {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
            local |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
            body = node.body if isinstance(node.body, list) else [node.body]
            local |= set[str]().union(*map(stored_names, body))
        if isinstance(node, ast.Attribute):
            if (chain := chain_of(node)) is not None:
                if chain[0] not in local:
                    yield from self._in_chain(node, call=None, in_kernel=in_kernel)
                return
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and chain_of(node.func):
            # First, because edits at one place hold in this order: an argument may end where its call's edit goes.
            for argument in (*node.args, *node.keywords):
                yield from self.over(argument, local=local, in_kernel=in_kernel)
            if chain_of(node.func)[0] not in local:  # type: ignore[index]
                yield from self._in_chain(node.func, call=node, in_kernel=in_kernel)
            return
        if _is_guard(node):
            return
        for inner in ast.iter_child_nodes(node):
            yield from self.over(inner, local=local, in_kernel=in_kernel)

    def _in_chain(self, node: ast.Attribute, *, call: ast.Call | None, in_kernel: bool) -> Iterator[UnknownName]:
        links: list[ast.Attribute] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            links.insert(0, root)
            root = root.value
        assert isinstance(root, ast.Name)
        path = self._bindings.path(root.id)
        for position, link in enumerate(links):
            if path is None:
                return
            following = step(path, link.attr, self._table)
            if following is None:
                outer = links[position + 1] if position + 1 < len(links) else None
                yield UnknownName(node=link, module=path, name=link.attr, call=call, outer=outer, in_kernel=in_kernel)
                return
            path = following


def _is_jit(decorator: ast.expr) -> bool:
    chain = chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return chain is not None and chain[-1] == "jit"


def _is_guard(node: ast.AST) -> bool:
    """Whether what stands in `node` may be there for another version: nothing is said of it."""
    if isinstance(node, ast.Try):
        return True
    tested = node.test if isinstance(node, (ast.If, ast.IfExp, ast.While)) else None
    tested = node if isinstance(node, ast.BoolOp) else tested
    return tested is not None and any(isinstance(n, ast.Name) and n.id in _ASKING for n in ast.walk(tested))
