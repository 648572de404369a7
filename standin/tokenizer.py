"""The stand-in's tokenizer: byte-level BPE trained on the generated text, in files that transformers and vLLM load.

Knows nothing of models or examples: it is given text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BEGIN = "<|begin_of_text|>"
END = "<|end_of_text|>"
PAD = "<|pad|>"
# What the prompt templates put between problem, answer and feedback.
MARKERS = ("<|problem|>", "<|answer|>", "<|feedback|>")
SPECIAL_TOKENS = (BEGIN, END, PAD, *MARKERS)
# What a token may hold at most: a line end with the next line's indentation, one word with the space or dot before it,
# one digit (so that a number is copied digit by digit and no number is unknown), a run of signs, a run of other space.
PIECES = r"\n+ *|[ .]?[A-Za-z_]+|\d| ?[^\sA-Za-z_\d]+|[^\S\n]+"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """At most `vocabulary` tokens, special ones and the 256 bytes included; fewer where the text has no more to merge.

    Encoding adds no token of its own: the templates name the token that begins a text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, context: int) -> None:
    """Both files, into a folder that is there. `context` is the most tokens that the model takes."""
    tokenizer.save(str(folder / TOKENIZER_FILE))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": list(MARKERS),
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / TOKENIZER_CONFIG_FILE).write_text(text, encoding="utf-8")


def id_of(token: str, *, tokenizer: Tokenizer) -> int:
    """Raises KeyError where the vocabulary lacks it."""
    if (found := tokenizer.token_to_id(token)) is None:
        raise KeyError(token)
    return found


def read_tokenizer(folder: Path) -> Tokenizer:
    """The one that `write_tokenizer` wrote into `folder`."""
    return Tokenizer.from_file(str(folder / TOKENIZER_FILE))
