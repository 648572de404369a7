"""Prints what stops each attack on this machine: `python -m tests.sandbox.attack_table`.

One line an attack: the layers each of which stops it alone, what it met behind all of them, and whether it succeeds
without them.
"""

from __future__ import annotations

from sandbox.isolation import available
from sandbox.zygote import Zygote
from tests.sandbox.attacks import ATTACKS, Surroundings, outcome


def main() -> None:
    surroundings = Surroundings()
    have = available()
    print("| attack | layers that stop it, each alone | behind all layers | without these |")
    print("|---|---|---|---|")
    try:
        with Zygote(("describe", "trace"), isolation_level="best_effort") as zygote:
            for attack in ATTACKS:
                if attack.against is not None and attack.against not in have:
                    print(f"| {attack.name} | ({attack.against}: not here) | | |")
                    continue
                layers = [name if name in have else f"({name}: not here)" for name in attack.layers()]
                met = outcome(zygote, attack, surroundings.world, without=())
                bare = outcome(zygote, attack, surroundings.world, without=attack.layers())
                stopped = "SUCCEEDS" if met is None else met.split(": '")[0]
                print(f"| {attack.name} | {', '.join(layers)} | {stopped} | {bare or 'succeeds'} |")
    finally:
        surroundings.close()


if __name__ == "__main__":
    main()
