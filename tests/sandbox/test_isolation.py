"""Each layer of isolation stops what it is for, and nothing but it does: with it alone taken away the attack succeeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import capabilities, file_view, isolation, landlock, seccomp, wire
from sandbox.zygote import Zygote
from tests.sandbox.attacks import ATTACKS, LIMITS, Attack, Surroundings, layers_without_attack, outcome

Try = Callable[..., str | None]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(("describe",), isolation_level="best_effort") as zygote:
        yield zygote


@pytest.fixture(scope="module")
def world() -> Iterator[dict[str, Any]]:
    surroundings = Surroundings()
    yield surroundings.world
    surroundings.close()


def needed(*layers: str) -> None:
    if missing := [name for name in layers if name not in isolation.available()]:
        pytest.skip(f"this machine has no {', '.join(missing)}")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_fails_behind_all_layers(zygote: Zygote, world: dict[str, Any], attack: Attack) -> None:
    if not set(attack.layers()) & set(isolation.available()):
        pytest.skip(f"this machine has none of {', '.join(attack.layers())}")
    assert outcome(zygote, attack, world, without=()) is not None


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_succeeds_without_the_layers_that_stop_it(
    zygote: Zygote, world: dict[str, Any], attack: Attack
) -> None:
    if not attack.layers():
        pytest.skip("only root's children need this layer")
    assert outcome(zygote, attack, world, without=attack.layers()) is None


@pytest.mark.parametrize(
    ("attack", "layer"), [(attack, layer) for attack in ATTACKS for layer in attack.layers() if len(attack.layers()) > 1],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_each_layer_named_stops_the_attack_alone(
    zygote: Zygote, world: dict[str, Any], attack: Attack, layer: str
) -> None:
    needed(layer)
    others = tuple(name for name in attack.layers() if name != layer)
    assert outcome(zygote, attack, world, without=others) is not None
