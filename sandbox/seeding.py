"""Seeds the random numbers of the devices that this project computes on, and puts them back.

`torch.manual_seed` seeds those of every kind of accelerator as well. Where one was not started it keeps the call, and a
formatted stack of who asked, for as long as the process lives: half a millisecond and some kilobytes each time, and a
judge seeds dozens of times a problem.
"""

from __future__ import annotations

import torch


def seed_torch(seed: int) -> None:
    """The numbers that `torch.manual_seed` gives on the CPU, and on CUDA where torch was built for it."""
    torch.default_generator.manual_seed(seed)
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


class fixed_rng:
    """Leaves the caller's random state as it was."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
