"""Whether a call has left a module as it was."""

from __future__ import annotations

import pytest
import torch

from sandbox.module_state import is_changed, load_attributes, moved_attributes, state_of


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
