"""Finds what may be set otherwise in a candidate's launches: block sizes, warps, stages, configurations to choose from.

A block size is taken only where the rest of the text follows it: the grid is computed from it, or the kernel loops in
steps of it. A number that stands for a size of the problem does not move, nor do blocks where descriptors are made on
the host, which have the same sizes once more. Reads syntax alone, and knows nothing of shapes: whether the kernel is
right under other numbers is for the judge.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sandbox.jitted_text import Kernel, Launch, kernels_of, launches_of
from sandbox.knobs import Knob, Place, Space
from sandbox.launch_scopes import Scopes
from sandbox.spans import Spans
from sandbox.syntax import parse_quietly

MAX_BLOCK = 16_384
LEAST_OF_A_DOT = 16  # sides of a factor that Triton takes for a matrix product, and
LEAST_SUMMED = 32  # the side that is summed over, which is longer for one-byte types
REACH = 16  # a block may become this many times as large, or as small
# What Triton takes where a launch names none, and what is worth trying.
OPTIONS = {"num_warps": (4, (1, 2, 4, 8, 16)), "num_stages": (3, (1, 2, 3, 4, 5))}
GROUP = "GROUP"  # the usual beginning of a swizzle's name, which no grid depends on
GROUP_VALUES = (1, 2, 4, 8, 16)
INDUCTOR_GRIDS = ("grid", "split_scan_grid", "cooperative_reduction_grid")
INDUCTOR_BLOCKS = ("XBLOCK", "YBLOCK", "ZBLOCK")
_DESCRIPTOR = "TensorDescriptor"
_MAX_DEPTH = 4  # of names that stand for names in a grid


@dataclass(slots=True, kw_only=True)
class _Found:
    """A knob that may turn out to be another's too, where they share a place."""

    name: str
    value: int | None
    values: tuple[int, ...]
    places: set[Place] = field(default_factory=set)

    def knob(self) -> Knob:
        places = tuple(sorted(self.places, key=lambda place: (place.start, place.end)))
        return Knob(name=self.name, value=self.value, values=self.values, places=places)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """What a grid is computed from: keys of `meta`, literals anywhere in it, and those that something is divided by."""

    keys: frozenset[str]
    literals: tuple[ast.Constant, ...]
    divisors: tuple[ast.Constant, ...]
    inductor: bool


def find_space(source: str) -> Space | None:
    """The knobs of a candidate's launches, in the order of the text; None where there are none."""
    tree = parse_quietly(source)
    if tree is None:
        return None
    finder = _Finder(source, tree)
    found, tiles = finder.found()
    if not found:
        return None
    knobs = tuple(f.knob() for f in found if len(f.values) > 1)
    return Space(source=source, knobs=knobs, tiles=tiles) if knobs else None


class _Finder:
    def __init__(self, source: str, tree: ast.Module) -> None:
        self._spans = Spans(source)
        self._scopes = Scopes(tree)
        self._kernels = kernels_of(tree)
        self._launches = launches_of(tree, self._kernels)
        self._describes = any(_is_descriptor(node) for node in ast.walk(tree))

    def found(self) -> tuple[list[_Found], tuple[tuple[str, ...], ...]]:
        founds: list[_Found] = []
        tiles: list[list[_Found]] = []
        numbers: dict[str, int] = {}
        for launch in self._launches:
            if not launch.named:
                continue
            number = numbers[launch.kernel.name] = numbers.get(launch.kernel.name, 0) + 1
            label = launch.kernel.name if number == 1 else f"{launch.kernel.name}#{number}"
            blocks = [] if self._describes else list(self._blocks(launch, label=label))
            tiles.append([block for block in blocks if not _is_group(block.name)])
            founds += blocks
            if launch.kernel.configs is None:
                founds += self._options(launch.call, within=launch.kernel, label=label, scopes=launch.scopes)
        for kernel in self._kernels.values():
            if kernel.configs is not None and any(launch.kernel is kernel for launch in self._launches):
                configured = list(self._configured(kernel))
                tiles.append([f for f in configured if not _is_group(f.name) and _last(f.name) not in OPTIONS])
                founds += configured
        joined = _joined(founds)
        kept = list({id(found): found for found in map(joined.__getitem__, map(id, founds))}.values())
        names = tuple(tuple(joined[id(block)].name for block in blocks) for blocks in tiles if blocks)
        return kept, names

    def _blocks(self, launch: Launch, *, label: str) -> Iterator[_Found]:
        """Those of the kernel's constexprs that may move, with what must move along."""
        kernel, given, grid = launch.kernel, launch.given, self._grid(launch)
        literals: dict[str, ast.Constant] = {}
        for name in sorted(kernel.constexprs - kernel.by_heuristics):
            written = given.get(name, None if launch.starred else kernel.default(name))
            literal = None if written is None else self._literal(written, scopes=launch.scopes)
            if literal is not None:
                literals[name] = literal
        for name, literal in literals.items():
            tied = [] if name in grid.keys else _tied(name, literals=literals, kernel=kernel, grid=grid)
            if not (tied or _follows(name, literal=literal, kernel=kernel, grid=grid) or _is_group(name)):
                continue
            value = _number(literal)
            yield _Found(
                name=f"{label}.{name}",
                value=value,
                values=_values_of(name, value=value, kernel=kernel),
                places={self._place(node) for node in (literal, *tied)},
            )

    def _options(self, call: ast.Call, *, within: Kernel, label: str, scopes: Sequence[ast.AST]) -> Iterator[_Found]:
        """Warps and, where the kernel loops, stages: as they are written, or added behind the last argument."""
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        for name, (usual, values) in OPTIONS.items():
            if name == "num_stages" and not within.loops:
                continue
            found = _Found(name=f"{label}.{name}", value=usual, values=values)
            if name in named:
                literal = self._literal(named[name], scopes=scopes)
                if literal is None or _number(literal) not in values:
                    continue
                found.value, found.places = _number(literal), {self._place(literal)}
            else:
                behind = self._behind(call)
                if behind is None:
                    continue
                found.places = {Place(start=behind, end=behind, before=f", {name}=", optional=True)}
            yield found

    def _configured(self, kernel: Kernel) -> Iterator[_Found]:
        """`triton.autotune` with one configuration is that one; several are tried as one of the search's own."""
        configs = kernel.configs
        if not isinstance(configs, ast.List) or not configs.elts:
            return
        read = [_config(element) for element in configs.elts]
        calls = [item[0] for item in read if item is not None]
        blocks = [item[1] for item in read if item is not None]
        if len(calls) != len(configs.elts) or any(set(block) != set(blocks[0]) for block in blocks) or not blocks[0]:
            return
        if len(calls) == 1:
            for name, literal in blocks[0].items():
                value = _number(literal)
                values = _values_of(name, value=value, kernel=kernel)
                places = {self._place(literal)}
                yield _Found(name=f"{kernel.name}.{name}", value=value, values=values, places=places)
            yield from self._options(calls[0], within=kernel, label=kernel.name, scopes=())
            return
        yield from self._one_for_all(kernel, configs=configs, func=calls[0].func, blocks=blocks)

    def _one_for_all(
        self, kernel: Kernel, *, configs: ast.List, func: ast.expr, blocks: Sequence[dict[str, ast.Constant]]
    ) -> Iterator[_Found]:
        start, end = self._spans.start(configs), self._spans.end(configs)
        names = [*blocks[0], "num_warps", *(["num_stages"] if kernel.loops else [])]
        before = f"[{self._spans.text(func)}({{"
        for number, name in enumerate(names):
            values: tuple[int, ...]
            if name in OPTIONS:
                values = OPTIONS[name][1]
                key = ("}, " if number == len(blocks[0]) else ", ") + f"{name}="
            else:
                tried = [_values_of(name, value=_number(block[name]), kernel=kernel) for block in blocks]
                values = tuple(sorted({value for values in tried for value in values}))
                key = ("" if number == 0 else ", ") + f'"{name}": '
            last = number == len(names) - 1
            place = Place(
                start=start if number == 0 else end,
                end=end,
                before=before + key if number == 0 else key,
                after=")]" if last else "",
            )
            yield _Found(name=f"{kernel.name}.{name}", value=None, values=values, places={place})

    def _grid(self, launch: Launch) -> _Grid:
        keys: set[str] = set()
        literals: list[ast.Constant] = []
        divisors: list[ast.Constant] = []
        nodes = list(self._expanded(launch.grid, scopes=launch.scopes, depth=0))
        for node in nodes:
            match node:
                case ast.Constant():
                    literals.append(node)
                case ast.Subscript(slice=ast.Constant(value=str(key))):
                    keys.add(key)
                case ast.Call(args=[_, divisor, *_]) if _name_of(node.func) == "cdiv":
                    divisors += self._constants(divisor, scopes=launch.scopes)
                case ast.BinOp(op=ast.FloorDiv()):
                    divisors += self._constants(node, scopes=launch.scopes)
        inductor = isinstance(launch.grid, ast.Call) and _name_of(launch.grid.func) in INDUCTOR_GRIDS
        return _Grid(keys=frozenset(keys), literals=tuple(literals), divisors=tuple(divisors), inductor=inductor)

    def _constants(self, node: ast.expr, *, scopes: Sequence[ast.AST]) -> list[ast.Constant]:
        expanded = self._expanded(node, scopes=scopes, depth=0)
        return [inner for inner in expanded if isinstance(inner, ast.Constant) and _is_block(inner)]

    def _expanded(self, node: ast.AST, *, scopes: Sequence[ast.AST], depth: int) -> Iterator[ast.AST]:
        """The nodes of an expression and of what its names stand for."""
        for inner in ast.walk(node):
            yield inner
            if isinstance(inner, (ast.Name, ast.Attribute)) and depth < _MAX_DEPTH:
                value = self._scopes.value_of(inner, scopes=scopes)
                if value is not None and value is not node:
                    yield from self._expanded(value, scopes=scopes, depth=depth + 1)

    def _literal(self, node: ast.expr, *, scopes: Sequence[ast.AST]) -> ast.Constant | None:
        """The power of two that is written for `node`, there or where the name is bound."""
        for _ in range(_MAX_DEPTH):
            if isinstance(node, ast.Constant):
                return node if _is_block(node) else None
            value = self._scopes.value_of(node, scopes=scopes)
            if value is None or isinstance(value, ast.FunctionDef):
                return None
            node = value
        return None

    def _place(self, node: ast.expr) -> Place:
        return Place(start=self._spans.start(node), end=self._spans.end(node))

    def _behind(self, call: ast.Call) -> int | None:
        """Where one more keyword argument goes."""
        last = [*call.args, *(keyword.value for keyword in call.keywords)]
        if not last:
            return None
        return self._spans.end_of_argument(max(last, key=self._spans.end), call)


def _follows(name: str, *, literal: ast.Constant, kernel: Kernel, grid: _Grid) -> bool:
    """Whether the launch follows a change of this number by itself."""
    if name in grid.keys or any(literal is node for node in grid.literals):
        return True
    return (grid.inductor and name in INDUCTOR_BLOCKS) or kernel.steps_by(name)


def _tied(name: str, *, literals: dict[str, ast.Constant], kernel: Kernel, grid: _Grid) -> list[ast.Constant]:
    """The grid's own divisors that say the same number as `name`, and move along with it.

    Where several constexprs have that number, those that loops step by are taken not to be meant.
    """
    value = _number(literals[name])
    same = [other for other, literal in literals.items() if _number(literal) == value]
    by_grid = [other for other in same if not kernel.loops_by(other)]
    if by_grid and name not in by_grid:
        return []
    own = set(map(id, literals.values()))
    return [node for node in grid.divisors if _number(node) == value and id(node) not in own]


def _joined(founds: Sequence[_Found]) -> dict[int, _Found]:
    """Each found knob's own, by identity: those that share a place are one, under the name of the first."""
    leader: dict[int, _Found] = {}
    leaders: list[_Found] = []
    for found in founds:
        mine = [other for other in leaders if _shares(other, found)]
        first = mine[0] if mine else found
        for other in (*mine[1:], *([found] if mine else [])):
            first.places |= other.places
            first.values = tuple(value for value in first.values if value in other.values)
            leaders = [kept for kept in leaders if kept is not other]
            leader = {key: first if held is other else held for key, held in leader.items()}
        leader[id(found)] = first
        if not mine:
            leaders.append(found)
    return leader


def _shares(one: _Found, other: _Found) -> bool:
    return any(place in other.places and place.end > place.start for place in one.places)


def _values_of(name: str, *, value: int, kernel: Kernel) -> tuple[int, ...]:
    if _is_group(name):
        return tuple(sorted({*GROUP_VALUES, value}))
    least = 1
    if kernel.dots:
        least = min(value, LEAST_SUMMED if kernel.loops_by(name) else LEAST_OF_A_DOT)
    least, most = max(least, value // REACH), max(value, min(MAX_BLOCK, value * REACH))
    return tuple(2**power for power in range(most.bit_length()) if least <= 2**power <= most)


def _config(node: ast.expr) -> tuple[ast.Call, dict[str, ast.Constant]] | None:
    """`triton.Config({"BLOCK": 64, ...}, num_warps=4, ...)` with nothing in it but such numbers."""
    if not isinstance(node, ast.Call) or _name_of(node.func) != "Config" or len(node.args) != 1:
        return None
    blocks, names = node.args[0], {keyword.arg for keyword in node.keywords}
    if not isinstance(blocks, ast.Dict) or not names <= set(OPTIONS):
        return None
    read: dict[str, ast.Constant] = {}
    for key, value in zip(blocks.keys, blocks.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(value, ast.Constant) or not _is_block(value):
            return None
        read[str(key.value)] = value
    return node, read


def _is_block(node: ast.Constant) -> bool:
    value = node.value
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and value & (value - 1) == 0


def _number(node: ast.Constant) -> int:
    assert isinstance(node.value, int)
    return node.value


def _is_descriptor(node: ast.AST) -> bool:
    """Whether a node names the class of descriptors, or gives it another name."""
    if isinstance(node, ast.alias):
        return node.name == _DESCRIPTOR and node.asname is not None
    return _DESCRIPTOR in (getattr(node, "id", None), getattr(node, "attr", None))


def _is_group(name: str) -> bool:
    return _last(name).startswith(GROUP)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _name_of(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
