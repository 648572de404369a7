"""What is sealed: any change of it shows, wherever in the memory of its tensors; nothing else does."""

from __future__ import annotations

import torch

from sandbox.seal import Seal


def test_a_write_anywhere_in_the_memory_shows_until_it_is_undone() -> None:
    whole, odd = torch.randn(64, 64), torch.arange(7, dtype=torch.uint8)
    seal = Seal([whole[3:5, ::2], whole, odd, torch.empty(0)])
    assert not seal.broken
    for tensor, at in ((whole.view(-1), 4095), (whole.view(-1), 0), (odd, 6)):
        before = tensor[at].clone()
        tensor[at] += 1
        assert seal.broken
        tensor[at] = before
        assert not seal.broken


def test_nan_and_expanded_tensors_can_be_sealed() -> None:
    one = torch.tensor([float("nan"), 1.0])
    seal = Seal([one.expand(1000, 2)])
    assert not seal.broken
    one[0] = 0.0
    assert seal.broken


def test_nothing_is_never_broken() -> None:
    assert not Seal([]).broken


def test_what_is_sealed_later_does_not_hide_what_was_changed_before() -> None:
    first, second = torch.arange(8.0), torch.arange(5.0)
    seal = Seal([first])
    first[3] += 1.0
    seal.add([second])
    assert seal.broken
    first[3] -= 1.0
    assert not seal.broken
    second[0] = 7.0
    assert seal.broken
