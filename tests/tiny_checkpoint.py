"""A checkpoint of the right form and no sense: a Llama of 50,000 random weights with a tokeniser trained on the spot.

`python -m tests.tiny_checkpoint FOLDER` makes one. It has a template, and the begin-of-text token twice, as KernelLLM.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
TEMPLATE = f"\n{BOS}Rewrite this module:\n{{}}\nThe answer:\n"
CONTEXT_TOKENS = 512
VOCABULARY = 320
HIDDEN, INNER, HEADS, KEY_HEADS, HEAD_SIZE, LAYERS = 64, 96, 2, 1, 32, 2
# So that about one token in twelve ends an answer, and both ends are seen within a few dozen tokens.
NUM_ENDING = 24
Weights = npt.NDArray[np.float64]
CORPUS = ["import torch", "import triton.language as tl", "def forward(self, x):", "class ModelNew(nn.Module):"]


def make(folder: Path) -> Path:
    """The same files each time, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD_SIZE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "dtype": "bfloat16",
    }
    endings = [eos, *range(VOCABULARY - NUM_ENDING + 1, VOCABULARY)]
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"bos_token_id": bos, "eos_token_id": endings})
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS},
    )
    (folder / "prompt_template.txt").write_text(TEMPLATE)
    _save(_weights(), folder / "model.safetensors")
    return folder


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(BOS, special=True), AddedToken(EOS, special=True)],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def _weights() -> dict[str, Weights]:
    dice = np.random.default_rng(0)

    def random(*shape: int) -> Weights:
        return np.asarray(dice.normal(size=shape) * shape[-1] ** -0.5)

    def ones() -> Weights:
        return np.ones(HIDDEN)

    weights = {"model.embed_tokens.weight": random(VOCABULARY, HIDDEN), "lm_head.weight": random(VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        weights |= {
            f"{name}.self_attn.q_proj.weight": random(HEADS * HEAD_SIZE, HIDDEN),
            f"{name}.self_attn.k_proj.weight": random(KEY_HEADS * HEAD_SIZE, HIDDEN),
            f"{name}.self_attn.v_proj.weight": random(KEY_HEADS * HEAD_SIZE, HIDDEN),
            f"{name}.self_attn.o_proj.weight": random(HIDDEN, HEADS * HEAD_SIZE),
            f"{name}.mlp.gate_proj.weight": random(INNER, HIDDEN),
            f"{name}.mlp.up_proj.weight": random(INNER, HIDDEN),
            f"{name}.mlp.down_proj.weight": random(HIDDEN, INNER),
            f"{name}.input_layernorm.weight": ones(),
            f"{name}.post_attention_layernorm.weight": ones(),
        }
    return {**weights, "model.norm.weight": ones()}


def _save(weights: dict[str, Weights], path: Path) -> None:
    """As safetensors: the header's length, the header, then the upper halves of float32, which are bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in weights.items():
        halves = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [len(data), len(data) + len(halves)]}
        data += halves
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
