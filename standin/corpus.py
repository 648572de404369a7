"""Encoded examples as tensors: in a file, and as the batches of a training step on one device.

Knows nothing of text. All tokens of a split are one tensor, so a batch is a look-up on the device and nothing waits for
a loader.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from standin.batches import Batch
from standin.model import IGNORED

SPLITS = ("train", "held_out")
# What a token of an answer is.
DRAFTED, COPIED, CHANGED = 0, 1, 2
_TENSORS = ("ids", "marks", "lengths", "num_prompts")  # of a split, in a file


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """`ids` of prompt, answer and end; the first `num_prompt` are the prompt, which is given and not learnt. `marks`
    has a byte for each token of the answer: DRAFTED, or in a repair COPIED or CHANGED."""

    ids: Sequence[int]
    num_prompt: int
    marks: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a token of a repair's answer counts in the loss, where one of a draft counts 1: a repair is mostly copied,
    and what is to be learnt are the places where it is not."""

    copied: float
    changed: float


class Corpus:
    """The sequences of one split, by number."""

    def __init__(self, ids: Tensor, marks: Tensor, lengths: Tensor, num_prompts: Tensor, *, pad: int) -> None:
        """`ids` and `marks` have all sequences one after the other, a mark for each id, the prompts' too; the other two
        have one figure a sequence. ids int16, marks uint8, the others int32, one device."""
        self.lengths: list[int] = lengths.tolist()
        self.num_answer_tokens = int((lengths - num_prompts).sum())
        self._ids = ids
        self._marks = marks
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
        ids = torch.where(inside, self._ids[self._at(rows, places)].long(), self._pad)
        learnt = torch.where(inside & (places >= num_prompts), ids, IGNORED)
        return ids, _moved(learnt, IGNORED)

    def weights(self, batch: Batch, weights: Weights) -> Tensor:
        """(rows, width), float32: what each place's id to come counts; of places that are IGNORED, anything."""
        device = self._ids.device
        rows, places = torch.tensor(batch.rows, device=device), torch.arange(batch.width, device=device)
        table = torch.tensor((1.0, weights.copied, weights.changed), device=device)
        return _moved(table[self._marks[self._at(rows, places)].long()], 0.0)

    def _at(self, rows: Tensor, places: Tensor) -> Tensor:
        """Where the tokens of those rows lie; past a row's end, anywhere."""
        return (self._starts[rows, None] + places).clamp(max=len(self._ids) - 1)


def _moved(values: Tensor, last: float) -> Tensor:
    """What belongs to the next place, at each place."""
    return torch.cat((values[:, 1:], values.new_full((len(values), 1), last)), dim=1)


def write_sequences(splits: Mapping[str, Sequence[TokenSequence]], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for split, sequences in splits.items():
        ids, marks = array("H"), bytearray()
        for sequence in sequences:
            ids.extend(sequence.ids)
            marks += bytes(sequence.num_prompt) + sequence.marks
        tensors[f"{split}.ids"] = torch.frombuffer(ids, dtype=torch.int16)
        tensors[f"{split}.marks"] = torch.frombuffer(marks, dtype=torch.uint8)
        tensors[f"{split}.lengths"] = torch.tensor([len(s.ids) for s in sequences], dtype=torch.int32)
        tensors[f"{split}.num_prompts"] = torch.tensor([s.num_prompt for s in sequences], dtype=torch.int32)
    save_file(tensors, path)


def read_corpus(path: Path, *, split: str, device: str, pad: int) -> Corpus:
    """Raises KeyError where the file has no such split."""
    with safe_open(path, framework="pt") as file:
        try:
            ids, marks, lengths, num_prompts = (file.get_tensor(f"{split}.{name}").to(device) for name in _TENSORS)
        except SafetensorError as error:
            raise KeyError(split) from error
    return Corpus(ids, marks, lengths, num_prompts, pad=pad)
