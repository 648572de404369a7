"""Tells whether tensors still hold what they held when they were sealed.

A kernel that writes far outside of its own tensors hits no guard band, but may hit what the judge keeps for the next
candidate. Sums find stray writes; whoever knows the content could write another with the same sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


class Seal:
    """Sums over the memory of tensors on one device, whole storages each once."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._contents: list[torch.Tensor] = []
        self._sums: list[int] = []
        self.add(tensors)

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Seals these as well, as they are now."""
        storages = {t.untyped_storage().data_ptr(): t for t in tensors if t.untyped_storage().nbytes()}
        contents = [_words(t) for t in storages.values()]
        self._contents += contents
        self._sums += _summed(contents)

    @property
    def broken(self) -> bool:
        """Whether something else is there now."""
        return _summed(self._contents) != self._sums


def _summed(contents: Sequence[torch.Tensor]) -> list[int]:
    sums = [words.sum(dtype=torch.int64) for words in contents]
    return torch.stack(sums).tolist() if sums else []


def _words(t: torch.Tensor) -> torch.Tensor:
    whole = torch.empty(0, dtype=torch.uint8, device=t.device).set_(t.untyped_storage())
    return whole.view(torch.int64) if whole.numel() % 8 == 0 else whole
