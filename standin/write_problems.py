"""Writes held-out problems as files that a run reads, as many families as there are in turn.

    python -m standin.write_problems --count 12 --out FOLDER [--size large] [--start SEED]

Knows nothing of models. The problems are those of `pair(seed, split="held_out")`, which training never sees.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path

from standin.pairs import FAMILIES, Pair, composition, pair
from standin.shapes import Size

MAX_LOOKED_AT = 10_000  # seeds, before it is clear that there are not so many different problems


def chosen(count: int, *, start: int, size: Size) -> dict[str, Pair]:
    """That many pairs by name, each of another composition and the families as even as can be; the lowest seeds first.

    Raises ValueError where there are fewer.
    """
    by_family: dict[str, dict[str, Pair]] = {family: {} for family in FAMILIES}
    most = -(-count // len(FAMILIES))
    for seed in range(start, start + MAX_LOOKED_AT):
        found, name = by_family[composition(seed, split="held_out").partition(":")[0]], name_of(seed)
        if len(found) < most and name not in found:
            found[name] = pair(seed, split="held_out", size=size)
            if all(len(known) == most for known in by_family.values()):
                break
    in_turn = [
        item for round_ in zip_longest(*(known.items() for known in by_family.values())) for item in round_ if item
    ]
    if len(in_turn) < count:
        raise ValueError(f"{len(in_turn)} problems among {MAX_LOOKED_AT} seeds, not {count}")
    return dict(in_turn[:count])


def name_of(seed: int) -> str:
    """What the problem of a seed is made of, as the name of its file."""
    return composition(seed, split="held_out").replace(": ", "_").replace(", ", "_")


def write_problems(pairs: dict[str, Pair], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in pairs.items():
        (folder / f"{name}.py").write_text(found.problem, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m standin.write_problems", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("small", "large"), default="small", help="large is for timing on a GPU")
    parser.add_argument("--start", type=int, default=0, help="the first seed looked at")
    options = parser.parse_args()
    write_problems(chosen(options.count, start=options.start, size=options.size), options.out)


if __name__ == "__main__":
    main()
