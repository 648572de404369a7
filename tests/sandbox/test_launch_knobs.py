"""Which numbers of a launch are free, and what the text says with others in their place."""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.extract import extract
from sandbox.knobs import MAX_TILE_ELEMENTS, Knob, Place, Space
from sandbox.launch_knobs import find_space

ROOT = Path(__file__).parents[2]
KERNEL = """
import triton
import triton.language as tl

@triton.jit
def copy(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)
"""
LOOP = """
@triton.jit
def total(x, y, n, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    for start in range(0, n, BLOCK):
        tl.store(y, start)
    for row in range(ROWS):
        tl.store(y, row)
"""


def space_of(body: str, *, kernels: str = KERNEL) -> Space:
    space = find_space(kernels + body)
    assert space is not None
    ast.parse(space.source)
    return space


def values(space: Space) -> dict[str, int | None]:
    return {knob.name: knob.value for knob in space.knobs}


def moved(space: Space, **numbers: int) -> str:
    """The text behind the kernels with some numbers set, by the last part of the knob's name."""
    point = {k.name: numbers.get(k.name.rpartition(".")[2], k.value) for k in space.knobs}
    return space.at({name: value for name, value in point.items() if value is not None}).removeprefix(KERNEL)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("copy[lambda meta: (triton.cdiv(n, meta['BLOCK']),)](x, y, n, BLOCK=64)", "copy[lambda meta: (triton.cdiv("
         "n, meta['BLOCK']),)](x, y, n, BLOCK=128, num_warps=8)"),
        ("copy[(triton.cdiv(n, 64),)](x, y, n, 64, num_warps=2)",
         "copy[(triton.cdiv(n, 128),)](x, y, n, 128, num_warps=8)"),
        ("copy[((n + 64 - 1) // 64,)](x, y, n, BLOCK=64,)",
         "copy[((n + 128 - 1) // 128,)](x, y, n, BLOCK=128, num_warps=8,)"),
        ("B = 64\ngrid = (triton.cdiv(n, B),)\ncopy[grid](x, y, n, BLOCK=B)",
         "B = 128\ngrid = (triton.cdiv(n, B),)\ncopy[grid](x, y, n, BLOCK=B, num_warps=8)"),
        ("B, W = 64, 4\ndef grid(meta):\n    return (triton.cdiv(n, meta['BLOCK']),)\n"
         "copy[grid](x, y, n, BLOCK=B, num_warps=W)",
         "B, W = 128, 8\ndef grid(meta):\n    return (triton.cdiv(n, meta['BLOCK']),)\n"
         "copy[grid](x, y, n, BLOCK=B, num_warps=W)"),
        ("class M:\n    BLOCK = 64\n    def forward(self, x, y, n):\n"
         "        copy[(triton.cdiv(n, self.BLOCK),)](x, y, n, BLOCK=self.BLOCK)",
         "class M:\n    BLOCK = 128\n    def forward(self, x, y, n):\n"
         "        copy[(triton.cdiv(n, self.BLOCK),)](x, y, n, BLOCK=self.BLOCK, num_warps=8)"),
        ("copy[grid(n)](x, y, n, XBLOCK=64, num_warps=4, num_stages=1)",
         "copy[grid(n)](x, y, n, XBLOCK=128, num_warps=8, num_stages=1)"),
    ],
)  # fmt: skip
def test_what_must_move_along_does(body: str, expected: str) -> None:
    kernels = KERNEL.replace("BLOCK", "XBLOCK") if "XBLOCK" in body else KERNEL
    space = space_of(body, kernels=kernels)
    text = moved(space, BLOCK=128, XBLOCK=128, num_warps=8)
    assert text.removeprefix(kernels) == expected


@pytest.mark.parametrize(
    "body",
    [
        "copy[(rows,)](x, y, n, BLOCK=64)",  # one program a row: the block must cover it
        "copy[(triton.cdiv(n, 64),)](x, y, n, BLOCK=triton.next_power_of_2(n))",
        "B = 64\nB = 32\ncopy[(triton.cdiv(n, B),)](x, y, n, BLOCK=B)",  # bound twice
        "def f(B=64):\n    copy[(triton.cdiv(n, B),)](x, y, n, BLOCK=B)",  # a caller may say otherwise
        "copy[(triton.cdiv(n, 96),)](x, y, n, BLOCK=96)",  # no power of two
        "d = TensorDescriptor.from_tensor(x, [64])\ncopy[(triton.cdiv(n, 64),)](d, y, n, BLOCK=64)",  # once more in d
        "from triton.tools.tensor_descriptor import TensorDescriptor as D\nd = D.from_tensor(x, [64])\n"
        "copy[(triton.cdiv(n, 64),)](d, y, n, BLOCK=64)",
    ],
)
def test_a_block_that_nothing_follows_stays(body: str) -> None:
    assert set(values(space_of(body))) == {"copy.num_warps"}


def test_a_launch_that_is_not_written_out_has_no_knobs() -> None:
    assert find_space(KERNEL + "copy[(triton.cdiv(n, 64),)](x, y, n, BLOCK=64, **options)") is None


def test_arguments_by_place_may_be_starred_where_the_block_is_named() -> None:
    space = space_of("rest = (y, n)\ncopy[(triton.cdiv(n, 64),)](x, *rest, BLOCK=64)")
    assert moved(space, BLOCK=128, num_warps=8).splitlines()[-1] == (
        "copy[(triton.cdiv(n, 128),)](x, *rest, BLOCK=128, num_warps=8)"
    )
    with_default = KERNEL.replace("BLOCK: tl.constexpr", "BLOCK: tl.constexpr = 64")
    hidden = space_of("copy[(triton.cdiv(n, 64),)](*arguments)", kernels=with_default)
    assert list(values(hidden)) == ["copy.num_warps"], "the block may be among what is starred"
    assert find_space("this is (no program") is None
    assert find_space("x = 1") is None


def test_loops_by_steps_move_and_loops_by_counts_do_not() -> None:
    space = space_of("total[(8,)](x, y, n, BLOCK=64, ROWS=4)", kernels=KERNEL + LOOP)
    assert values(space) == {"total.BLOCK": 64, "total.num_warps": 4, "total.num_stages": 3}


def test_a_default_of_the_kernel_counts_as_given() -> None:
    kernels = KERNEL.replace("BLOCK: tl.constexpr", "BLOCK: tl.constexpr = 64")
    space = space_of("copy[lambda m: (triton.cdiv(n, m['BLOCK']),)](x, y, n)", kernels=kernels)
    assert "BLOCK: tl.constexpr = 256" in moved(space, BLOCK=256)


def test_each_launch_has_numbers_of_its_own_unless_they_share_them() -> None:
    apart = space_of("copy[(triton.cdiv(n, 64),)](x, y, n, 64)\ncopy[(triton.cdiv(n, 64),)](y, x, n, 64)")
    assert set(values(apart)) == {"copy.BLOCK", "copy.num_warps", "copy#2.BLOCK", "copy#2.num_warps"}
    shared = space_of("g = (triton.cdiv(n, 64),)\ncopy[g](x, y, n, 64)\ncopy[g](y, x, n, 64)")
    assert set(values(shared)) == {"copy.BLOCK", "copy.num_warps", "copy#2.num_warps"}
    assert moved(shared, BLOCK=32) == "g = (triton.cdiv(n, 32),)\ncopy[g](x, y, n, 32)\ncopy[g](y, x, n, 32)"


AUTOTUNED = """
@triton.autotune(configs=[{configs}], key=["n"])
@triton.jit
def copy(x, y, n, BLOCK: tl.constexpr):
    tl.store(y, tl.load(x))

copy[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, y, n)
"""


def test_of_several_configurations_one_is_written() -> None:
    configs = 'triton.Config({"BLOCK": 64}, num_warps=2), triton.Config({"BLOCK": 256}, num_warps=4)'
    space = space_of(AUTOTUNED.format(configs=configs), kernels="import triton\n")
    assert values(space) == {"copy.BLOCK": None, "copy.num_warps": None}
    assert space.current is None
    text = space.at({"copy.BLOCK": 128, "copy.num_warps": 8})
    assert 'configs=[triton.Config({"BLOCK": 128}, num_warps=8)], key' in text
    assert space.point_of(text) == {"copy.BLOCK": 128, "copy.num_warps": 8}


def test_one_configuration_is_taken_as_it_stands() -> None:
    space = space_of(AUTOTUNED.format(configs='triton.Config({"BLOCK": 64})'), kernels="import triton\n")
    assert values(space) == {"copy.BLOCK": 64, "copy.num_warps": 4}
    assert 'triton.Config({"BLOCK": 128}, num_warps=8)' in space.at({"copy.BLOCK": 128, "copy.num_warps": 8})


@pytest.mark.parametrize("configs", ["c for c in made", 'triton.Config({"BLOCK": 64}, pre_hook=clear)'])
def test_configurations_that_do_more_are_left_alone(configs: str) -> None:
    text = "import triton\n" + AUTOTUNED.format(configs=configs)
    assert find_space(text) is None


def test_a_tile_is_bounded_unless_it_is_larger_already() -> None:
    place = Place(start=0, end=1)
    knob = Knob(name="b", value=256, values=(256, 512, 1024), places=(place,))
    space = Space(source="1", knobs=(knob,), tiles=(("b", "b"),))
    assert space.allows({"b": 256})
    assert MAX_TILE_ELEMENTS < 512 * 512
    assert not space.allows({"b": 512})
    assert replace(space, knobs=(replace(knob, value=1024),)).allows({"b": 512})


def recorded() -> list[str]:
    import json

    lines = (ROOT / "configs" / "completions" / "recorded.jsonl").read_text().splitlines()
    sources = [extract(json.loads(line)["completion"], finish_reason=None).source for line in lines]
    return [source for source in sources if source is not None]


def test_texts_at_random_points_parse_and_tell_their_point() -> None:
    """Over all programs at hand; the text at its own point is the text."""
    honest = [path.read_text() for path in sorted((ROOT / "tests" / "adversarial" / "honest").glob("*.py"))]
    spaces = [space for source in (*honest, *recorded()) if (space := find_space(source)) is not None]
    assert len(spaces) > 150
    rng = random.Random(0)
    for space in spaces:
        assert space.current is None or space.at(space.current) == space.source
        for _ in range(10):
            point = {knob.name: rng.choice(knob.values) for knob in space.knobs}
            text = space.at(point)
            ast.parse(text)
            assert space.point_of(text) == point
        assert space.point_of(space.source + "\nx = 1") is None
