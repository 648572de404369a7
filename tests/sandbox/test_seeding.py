"""Seeding: torch's own numbers, and nothing kept for devices that were never started."""

from __future__ import annotations

import torch

from sandbox.seeding import seed_torch


def test_the_numbers_are_those_of_torchs_own_seed() -> None:
    torch.manual_seed(2**40 + 7)
    wanted = torch.randn(16)
    torch.rand(3)
    seed_torch(2**40 + 7)
    assert torch.equal(torch.randn(16), wanted)


def test_nothing_is_kept_from_call_to_call() -> None:
    """torch.manual_seed leaves a call and a stack with each device that was not started, for the process's life."""
    before = len(torch.xpu._queued_calls)
    for seed in range(10):
        seed_torch(seed)
    assert len(torch.xpu._queued_calls) == before
