"""Text as a model's tokens: encoding prompts, counting them, and decoding answers, from a checkpoint's tokenizer.json.

Knows nothing of templates or limits. Needs the `tokenizers` library alone, no torch and no transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers.decoders import DecodeStream

from agent.checkpoint import CONFIG, TOKENIZER, TOKENIZER_CONFIG, CheckpointError, read_mapping

Bos = Literal["as_shipped", "single", "none"]


class Tokens:
    """One checkpoint's tokens.

    `bos` decides on the begin-of-text token. `as_shipped`: what its tokeniser makes of a prompt when nobody interferes;
    KernelLLM's template begins with a newline and the token's own name, so that is token, newline, token. `single`: one
    in front of all, and those in the text are left out. `none`: those in the text are left out, too.
    """

    def __init__(self, folder: Path, *, bos: Bos) -> None:
        """Raises CheckpointError."""
        path = folder / TOKENIZER
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{path}: is no tokeniser: {' '.join(str(error).split())}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bos = bos
        self.bos_id = bos_id_of(folder, tokenizer=self._tokenizer)
        if bos == "single" and self.bos_id is None:
            raise CheckpointError(f"{folder}: sampler.bos: single, but the checkpoint names no begin-of-text token")

    def encode(self, prompt: str) -> tuple[int, ...]:
        """The ids that are sent for a prompt."""
        if self._bos == "as_shipped":
            return tuple(self._tokenizer.encode(prompt, add_special_tokens=True).ids)
        body = (id for id in self._tokenizer.encode(prompt, add_special_tokens=False).ids if id != self.bos_id)
        return tuple(body) if self.bos_id is None or self._bos == "none" else (self.bos_id, *body)

    def count(self, prompt: str) -> int:
        return len(self.encode(prompt))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of an answer, without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def piecewise(self) -> Callable[[int], str]:
        """Gives, as it is told token after token of one answer, the text that has become whole: "" if none has."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda id: stream.step(self._tokenizer, id) or ""

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of an answer in pieces, each as soon as its last token is there. Half a character comes last."""
        piece_of, kept, num_given = self.piecewise(), [], 0
        for id in ids:
            kept.append(id)
            if piece := piece_of(id):
                num_given += len(piece)
                yield piece
        if rest := self.decode(kept)[num_given:]:
            yield rest

    def name(self, id: int) -> str:
        """A token as it stands in the vocabulary."""
        return self._tokenizer.id_to_token(id) or f"({id} is in no vocabulary)"

    @property
    def special_names(self) -> frozenset[str]:
        """What `encode` makes special tokens of wherever it stands: in text that is data it must be broken before."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset(token.content for token in added if token.special)

    @property
    def num_tokens(self) -> int:
        """The size of the vocabulary, with what was added to it."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)


def bos_id_of(folder: Path, *, tokenizer: tokenizers.Tokenizer) -> int | None:
    """The begin-of-text token that the tokeniser's configuration names, else the model's own."""
    path = folder / TOKENIZER_CONFIG
    named = read_mapping(path).get("bos_token") if path.exists() else None
    if isinstance(named, dict):
        named = named.get("content")
    if isinstance(named, str):
        id = tokenizer.token_to_id(named)
        if id is None:
            raise CheckpointError(f"{path}: bos_token: {named!r} is not in {TOKENIZER}")
        return int(id)
    id = read_mapping(folder / CONFIG).get("bos_token_id")
    return id if isinstance(id, int) else None
