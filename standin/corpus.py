"""Encoded examples as tensors: in a file, and as the batches of a training step on one device.

Knows nothing of text. All tokens of a split are one tensor, so a batch is a look-up on the device and nothing waits for
a loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from standin.batches import Batch
from standin.model import IGNORED

SPLITS = ("train", "held_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """`ids` of prompt, answer and end; the first `num_prompt` are the prompt, which is given and not learnt."""

    ids: tuple[int, ...]
    num_prompt: int


class Corpus:
    """The sequences of one split, by number."""

    def __init__(self, ids: Tensor, lengths: Tensor, num_prompts: Tensor, *, pad: int) -> None:
        """`ids` has all sequences one after the other; the other two have one figure a sequence. int32, one device."""
        self.lengths: list[int] = lengths.tolist()
        self.num_answer_tokens = int((lengths - num_prompts).sum())
        self._ids = ids
        self._starts = lengths.cumsum(0) - lengths
        self._lengths = lengths
        self._num_prompts = num_prompts
        self._pad = pad

    def tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids (rows, width), padded at the end, and for each place the id to come: IGNORED but in answers."""
        device = self._ids.device
        rows = torch.tensor(batch.rows, device=device)
        places = torch.arange(batch.width, device=device)
        lengths, num_prompts = self._lengths[rows, None], self._num_prompts[rows, None]
        inside = places < lengths
        found = self._ids[(self._starts[rows, None] + places).clamp(max=len(self._ids) - 1)].long()
        ids = torch.where(inside, found, self._pad)
        learnt = torch.where(inside & (places >= num_prompts), ids, IGNORED)
        return ids, torch.cat((learnt[:, 1:], learnt.new_full((len(batch.rows), 1), IGNORED)), dim=1)


def write_sequences(splits: Mapping[str, Sequence[TokenSequence]], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for split, sequences in splits.items():
        ids = [token for sequence in sequences for token in sequence.ids]
        tensors[f"{split}.ids"] = torch.tensor(ids, dtype=torch.int16)
        tensors[f"{split}.lengths"] = torch.tensor([len(s.ids) for s in sequences], dtype=torch.int32)
        tensors[f"{split}.num_prompts"] = torch.tensor([s.num_prompt for s in sequences], dtype=torch.int32)
    save_file(tensors, path)


def read_corpus(path: Path, *, split: str, device: str, pad: int) -> Corpus:
    """Raises KeyError where the file has no such split."""
    tensors = load_file(path)
    ids, lengths, num_prompts = (
        tensors[f"{split}.{name}"].to(device, torch.int32) for name in ("ids", "lengths", "num_prompts")
    )
    return Corpus(ids, lengths, num_prompts, pad=pad)
