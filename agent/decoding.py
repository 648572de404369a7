"""Generates many answers at once with a local model: a row an answer, each with its own dice and its own cache.

Knows nothing of text, of who asked, or of threads: whoever owns a `Decoder` calls it from one thread. All of torch and
transformers that `agent` uses is here.

A row's sample depends on its own prompt, seed and settings. What else is generated beside it only enters through
rounding: kernels may add up in another order for another number of rows or another length of cache, so two tokens that
are as good as equally likely may change places. Prompts are taken in one at a time, so that much is the same always.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from agent.checkpoint import Checkpoint, CheckpointError

# Of the vocabulary, the part that is sorted for every token. A row whose nucleus is wider sorts all of it.
NUM_SORTED = 64
FIRST_CAPACITY = 256  # tokens; a cache that is full grows by half

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One answer to be generated. `temperature` 0 takes the likeliest token, `top_k` 0 is no bound."""

    prompt_ids: tuple[int, ...]
    seed: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """An answer in the making. `token_ids` hold the token that ended it, too; `finish_reason` is None until then.

    Whoever ends it for a reason of their own says so there.
    """

    order: Order
    dice: random.Random
    token_ids: list[int] = field(default_factory=list)
    finish_reason: Literal["stop", "length", "repetition"] | None = None

    @property
    def num_cached(self) -> int:
        """How many tokens the cache holds for this row: all but the last."""
        return len(self.order.prompt_ids) + len(self.token_ids) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt whose keys and values lie in a slot, from the first on, and the logits of what follows it."""

    ids: tuple[int, ...]
    logits: torch.Tensor


class Slots:
    """The keys and values of every row, one slot each; stands in for transformers' cache while rows are decoded.

    A row's tokens lie at 0, 1, 2, ... of its slot, so that nothing is padded, and rows begin and end when they like.
    """

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = torch.empty(0, dtype=torch.long)
        self._positions = torch.empty(0, dtype=torch.long)
        self._length = 0

    def fill(self, slot: int, *, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Puts a prompt's keys and values, each (1, heads, tokens, size), at the head of `slot`."""
        length = layers[0][0].shape[2]
        if not self._layers:
            self._layers = [(self._empty(keys, length), self._empty(values, length)) for keys, values in layers]
        self.reserve(length)
        for (keys, values), (new_keys, new_values) in zip(self._layers, layers, strict=True):
            keys[slot, :, :length] = new_keys[0]
            values[slot, :, :length] = new_values[0]

    def copy(self, source: int, *, to: int, length: int) -> None:
        for held in self._layers:
            for tensor in held:
                tensor[to, :, :length] = tensor[source, :, :length]

    def reserve(self, length: int) -> None:
        """Makes room for `length` tokens in each slot."""
        capacity = self._layers[0][0].shape[2]
        if length > capacity:
            more = max(length, capacity + capacity // 2)
            self._layers = [(_grown(keys, to=more), _grown(values, to=more)) for keys, values in self._layers]

    def aim(self, positions: Sequence[int], *, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Row i's next token goes to `positions[i]` of slot i. Gives those (rows, 1) and a mask (rows, 1, 1, keys)."""
        self._length = max(positions) + 1
        self.reserve(self._length)
        self._rows = torch.arange(len(positions), device=device)
        self._positions = torch.tensor(positions, device=device)
        mask = torch.arange(self._length, device=device) <= self._positions[:, None]
        return self._positions[:, None], mask[:, None, None]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What an attention layer calls with one new token a row: keeps it, and gives all there is."""
        all_keys, all_values = self._layers[layer]
        all_keys[self._rows, :, self._positions] = keys[:, :, 0]
        all_values[self._rows, :, self._positions] = values[:, :, 0]
        num_rows = len(self._rows)
        return all_keys[:num_rows, :, : self._length], all_values[:num_rows, :, : self._length]

    def get_seq_length(self, layer: int = 0) -> int:
        return self._length

    def _empty(self, like: torch.Tensor, length: int) -> torch.Tensor:
        _, num_heads, _, size = like.shape
        return like.new_zeros(self._num_slots, num_heads, max(length, FIRST_CAPACITY), size)


class Decoder:
    """A loaded model and the rows that it works on, at most `num_slots` of them.

    Rows take slots 0, 1, 2, ... without gaps. A slot remembers the prompt it was begun with until another is put there,
    so that many samples of one prompt, at once or one after the other, take it in once.
    """

    def __init__(self, model: Any, *, eos_ids: frozenset[int], num_slots: int) -> None:
        """`model` is a causal language model of transformers with full attention; see `load`."""
        self._model = model
        # What transformers calls the cache, of an argument and of an answer; older versions know the other name alone.
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._eos_ids = eos_ids
        self._slots = Slots(num_slots)
        self._rows: list[Row] = []
        self._prompts: list[Prompt | None] = [None] * num_slots

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str, num_slots: int) -> Self:
        """A checkpoint's model: in float32 on a CPU, which computes nothing faster, else in the type it was saved in.

        `device` is `auto` (a GPU where there is one) or a name of torch's. Raises CheckpointError for attention that
        this does not do, OSError or ValueError where there is no such model, RuntimeError where no such device.
        """
        if not checkpoint.full_attention:
            raise CheckpointError(f"{checkpoint.folder}: its layers see a window only; sampler.kind: vllm does that")
        disable_progress_bar()  # it would be drawn across the run's display
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model = AutoModelForCausalLM.from_pretrained(
            str(checkpoint.folder),
            dtype=torch.float32 if chosen.startswith("cpu") else "auto",
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        return cls(model.to(chosen).eval(), eos_ids=checkpoint.eos_ids, num_slots=num_slots)

    def use_threads(self, number: int) -> int:
        """How many cores the calling thread computes on, from now on. Gives how many it did."""
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        return before

    @property
    def num_free(self) -> int:
        return len(self._prompts) - len(self._rows)

    @property
    def device(self) -> str:
        return str(self._model.device)

    @torch.inference_mode()
    def begin(self, order: Order) -> Row:
        """Takes a prompt in and chooses its first token, which may be its last. There must be a free slot."""
        slot = len(self._rows)
        held = next((at for at, prompt in enumerate(self._prompts) if prompt and prompt.ids == order.prompt_ids), None)
        if held is None:
            self._prompts[slot] = self._take_in(order.prompt_ids, slot=slot)
        elif held != slot:
            self._slots.copy(held, to=slot, length=len(order.prompt_ids))
            self._prompts[slot] = self._prompts[held]
        prompt = self._prompts[slot]
        assert prompt is not None
        row = Row(order=order, dice=random.Random(order.seed))
        self._rows.append(row)
        self._extend([row], logits=prompt.logits[None])
        if row.finish_reason is not None:
            self.end(row)
        return row

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One more token for every row. Gives all that got one; those that are finished are worked on no more."""
        rows = list(self._rows)
        if not rows:
            return []
        device = self._model.device
        positions, mask = self._slots.aim([row.num_cached for row in rows], device=device)
        last = torch.tensor([[row.token_ids[-1]] for row in rows], device=device)
        answer = self._model(
            input_ids=last, position_ids=positions, attention_mask=mask, use_cache=True,
            **{self._cache_name: self._slots},
        )  # fmt: skip
        self._extend(rows, logits=answer.logits[:, -1])
        for row in rows:
            if row.finish_reason is not None:
                self.end(row)
        return rows

    def answer(self, order: Order) -> Generator[int, None, None]:
        """One answer alone, token by token, without the one that ends it. Rows of others get theirs meanwhile."""
        row = self.begin(order)
        num_given = 0
        try:
            while True:
                said = row.token_ids[:-1] if row.finish_reason == "stop" else row.token_ids
                yield from said[num_given:]
                num_given = len(said)
                if row.finish_reason is not None:
                    return
                self.step()
        finally:
            self.end(row)

    @torch.inference_mode()
    def end(self, row: Row) -> None:
        """No more tokens for `row`; the last row moves to its slot. Nothing happens if it has none."""
        if row not in self._rows:
            return
        slot, last = self._rows.index(row), len(self._rows) - 1
        if slot != last:
            self._slots.copy(last, to=slot, length=self._rows[last].num_cached)
            self._prompts[slot] = self._prompts[last]
            self._rows[slot] = self._rows[last]
        self._rows.pop()

    def _take_in(self, ids: tuple[int, ...], *, slot: int) -> Prompt:
        answer = self._model(input_ids=torch.tensor([ids], device=self._model.device), use_cache=True, logits_to_keep=1)
        layers = getattr(answer, self._cache_name).layers
        self._slots.fill(slot, layers=[(layer.keys, layer.values) for layer in layers])
        return Prompt(ids=ids, logits=answer.logits[0, -1].float())

    def _extend(self, rows: Sequence[Row], *, logits: torch.Tensor) -> None:
        for row, token in zip(rows, choose(logits.float(), rows=rows), strict=True):
            row.token_ids.append(token)
            if token in self._eos_ids:
                row.finish_reason = "stop"
            elif len(row.token_ids) == row.order.max_tokens:
                row.finish_reason = "length"


def choose(logits: torch.Tensor, *, rows: Sequence[Row]) -> list[int]:
    """One token id a row from logits (rows, vocabulary), each by its own settings and one throw of its own dice.

    The order is temperature, then top_k, then top_p: the likeliest tokens until their share reaches `top_p`.
    """
    temperatures = torch.tensor([[row.order.temperature or 1.0] for row in rows], device=logits.device)
    scaled = logits / temperatures
    total = torch.logsumexp(scaled, dim=-1, keepdim=True)
    values, ids = torch.topk(scaled, min(NUM_SORTED, logits.shape[-1]), dim=-1)
    heads, head_ids = torch.exp(values - total).double().cpu().numpy(), ids.cpu().numpy()
    chosen = []
    for at, row in enumerate(rows):
        shares, share_ids = heads[at], head_ids[at]
        if not _enough(shares, order=row.order) and len(shares) < logits.shape[-1]:
            whole, whole_ids = torch.sort(scaled[at], descending=True, stable=True)
            shares, share_ids = torch.exp(whole - total[at]).double().cpu().numpy(), whole_ids.cpu().numpy()
        chosen.append(int(share_ids[draw(shares, order=row.order, throw=row.dice.random())]))
    return chosen


def draw(shares: Shares, *, order: Order, throw: float) -> int:
    """The index that `throw`, from [0, 1), falls on, of descending shares of the whole vocabulary."""
    if order.temperature == 0:
        return 0
    reached = np.cumsum(shares[: order.top_k or None])
    whole = reached[-1] if order.top_k else 1.0
    num_kept = min(int(np.searchsorted(reached, order.top_p * whole)) + 1, len(reached))
    return min(int(np.searchsorted(reached[:num_kept], throw * reached[num_kept - 1], side="right")), num_kept - 1)


def _enough(shares: Shares, *, order: Order) -> bool:
    """Whether all that may be drawn is among the likeliest `shares`."""
    if order.temperature == 0 or 0 < order.top_k <= len(shares):
        return True
    return order.top_k == 0 and bool(shares.sum() >= order.top_p)


def _grown(tensor: torch.Tensor, *, to: int) -> torch.Tensor:
    num_slots, num_heads, length, size = tensor.shape
    grown = tensor.new_zeros(num_slots, num_heads, to, size)
    grown[:, :, :length] = tensor
    return grown
