"""Whether a call has left a module as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sandbox.module_state import all_tensors, is_changed, load_attributes, moved_attributes, moved_to, state_of


class Counts(torch.nn.Module):
    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x


class Remembers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.register_buffer("last", x)
        return x


@pytest.mark.parametrize(
    ("model", "expected"), [(Counts(), True), (Remembers(), True), (torch.nn.BatchNorm1d(3).eval(), False)]
)
def test_a_module_that_keeps_something_of_a_call_is_changed(model: torch.nn.Module, expected: bool) -> None:
    weights = {name: t.detach().clone() for name, t in state_of(model).items()}
    assert not is_changed(model, weights)
    model(torch.ones(2, 3))
    assert is_changed(model, weights) is expected


class Cell(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.scale = torch.zeros(2), torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.made = torch.ones(2)
        self.hidden = self.hidden + x * self.scale
        return self.hidden


def test_attributes_that_a_call_moves_are_told_and_can_be_given_to_another_module() -> None:
    before, model, other = (torch.nn.Sequential(Cell()) for _ in range(3))
    model(torch.ones(2))
    moved = moved_attributes(model, before)
    assert list(moved) == ["0.hidden"]
    load_attributes(other, moved)
    assert torch.equal(other(torch.zeros(2)), torch.ones(2))


class Holds(torch.nn.Module):
    kept: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.name = torch.ones(2), "holds"
        self.listed: list[Any] = [torch.ones(2), 3]
        self.register_buffer("kept", torch.ones(2))


def test_all_that_a_module_holds_is_moved_and_not_its_parameters_alone() -> None:
    inner = Holds()
    moved_to(torch.nn.Sequential(inner), torch.device("meta"))  # a device that every machine has
    first, second = inner.listed
    assert isinstance(first, torch.Tensor) and first.device.type == "meta"
    assert {inner.plain.device.type, inner.kept.device.type} == {"meta"}
    assert (second, inner.name) == (3, "holds")


def test_what_is_held_in_two_places_is_moved_once() -> None:
    """A module that writes to one of them in its call reads it in the other."""
    first, second = Holds(), Holds()
    second.plain = first.plain
    second.listed = first.listed
    first.listed += [first.kept, first.plain]
    first.listed.append(first.listed)
    moved_to(torch.nn.Sequential(first, second), torch.device("meta"))
    assert first.plain is second.plain and first.listed is second.listed
    *_, kept, plain, itself = first.listed
    assert kept is first.kept and plain is first.plain and itself is first.listed


def test_all_that_modules_hold_is_found() -> None:
    hidden, kept = torch.ones(1), torch.ones(2)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), Counts())
    keys: list[object] = [kept]
    keys.append(keys)
    vars(model[1]).update(hidden=hidden, kept={"keys": keys, "name": "kept"})
    found = {id(tensor) for tensor in all_tensors(model)}
    assert {id(tensor) for tensor in (*model.parameters(), *model.buffers(), hidden, kept)} <= found
