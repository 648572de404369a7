"""Measures what one layer of isolation costs a call of the sandbox: wall milliseconds with it and without.

`python tests/benchmarks/layer_cost.py control_group [--repeats 200] [--pause 0.0]` from the repository's root; needs no
GPU. Two warm processes, one of which never had the layer, take turns with the smallest call there is, `--pause` seconds
after the last; what differs between them but the layer, as where their memory lies, counts too. Prints medians with
their quartiles, and the median of the differences of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import isolation, wire
from sandbox.zygote import Zygote
from tests.judge_settings import LIMITS

ENTRIES = ("describe", "trace")
REQUEST = wire.pack({"source": "raise ValueError"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layer", choices=isolation.available())
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    have = isolation.available()
    with Zygote(ENTRIES, isolation_level="best_effort") as behind:
        setattr(isolation, "available", lambda: tuple(name for name in have if name != options.layer))  # noqa: B010
        with Zygote(ENTRIES, isolation_level="best_effort") as bare:
            took: dict[str, list[float]] = {"with": [], "without": []}
            for _ in range(options.repeats):
                for name, zygote in (("with", behind), ("without", bare)):
                    time.sleep(options.pause)
                    took[name].append(milliseconds(zygote))
    for name, each in took.items():
        low, middle, high = statistics.quantiles(each, n=4)
        print(f"{name:>10}: {middle:.2f} ms, quartiles {low:.2f} and {high:.2f}")
    differences = [a - b for a, b in zip(took["with"], took["without"], strict=True)]
    print(f"difference: {statistics.median(differences):.2f} ms, {options.repeats} pairs")


def milliseconds(zygote: Zygote) -> float:
    """The wall time of one call."""
    start = time.perf_counter()
    if zygote.run("describe", REQUEST, limits=LIMITS).result is None:
        raise SystemExit("the child left no result")
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
