"""How stress moves values."""

from __future__ import annotations

import torch

from sandbox.stress import moved


def test_half_a_rounding_goes_up_as_often_as_down_and_is_not_rounded_away() -> None:
    step = torch.finfo(torch.float32).eps / 2
    values = torch.rand(1000, 7) + 0.5
    relative = moved(values, seed=3, step=step) / values.double() - 1
    assert torch.allclose(relative.abs(), torch.tensor(step, dtype=torch.float64), rtol=1e-6)
    assert 0.4 < float((relative > 0).double().mean()) < 0.6


def test_tensors_of_any_form_are_moved_and_left_as_they_were() -> None:
    for values in (torch.tensor(2.0), torch.ones(3, 1).expand(3, 4), torch.rand(4, 5).t(), torch.empty(0, 3)):
        before = values.clone()
        assert moved(values, seed=1, step=0.5).shape == values.shape
        assert torch.equal(values, before)
    assert moved(torch.arange(3), seed=1, step=0.5).dtype is torch.int64
