"""Makes a Llama checkpoint folder without a network: configuration, a tokenizer of its own, and weights on demand.

The tokenizer is byte-level BPE trained on this repository's Python files, filled up with names nobody writes to the
wanted vocabulary. It stands in for a model's own wherever rates or failures are looked at, never the quality of
answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama's sizes. Heads are of `hidden // num_heads` numbers each."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    vocabulary: int
    context: int


TINY = Shape(
    hidden=256,
    intermediate=512,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    vocabulary=512,
    context=2048,
)
# meta-llama/Llama-3.1-8B, config.json; its rotary scaling is left out, which changes no rate.
LLAMA_8B = Shape(
    hidden=4096,
    intermediate=14336,
    num_layers=32,
    num_heads=32,
    num_key_value_heads=8,
    vocabulary=128256,
    context=8192,
)


def make_folder(folder: Path, shape: Shape, *, seed: int | None) -> Path:
    """Writes the folder and gives it back. With a seed it has random weights, else none: for `load_format: dummy`."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder, vocabulary=shape.vocabulary)
    (folder / "config.json").write_text(json.dumps(configuration(shape)))
    generation = {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "prompt_template.txt").write_text("\n" + BOS + "Rewrite as Triton:\n{}\n")
    if seed is not None:
        make_weights(folder, shape, seed=seed)
    return folder


def configuration(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.hidden // shape.num_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }


def make_tokenizer(folder: Path, *, vocabulary: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, 8192),
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text() for name in ("sandbox", "agent") for path in sorted((ROOT / name).glob("*.py"))]
    tokenizer.train_from_iterator(texts, trainer)
    written = json.loads(tokenizer.to_str())
    # As words of the model that no merge makes: a hundred thousand added tokens would take minutes to load.
    words = written["model"]["vocab"]
    words |= {f"<unused_{id}>": id for id in range(len(words), vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def make_weights(folder: Path, shape: Shape, *, seed: int) -> None:
    """Random bfloat16 weights under the names that Llama checkpoints use."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    head = shape.hidden // shape.num_heads
    key_value = shape.num_key_value_heads * head

    def drawn(*sizes: int) -> torch.Tensor:
        return (torch.randn(*sizes, generator=generator) * 0.05).to(torch.bfloat16)

    ones = torch.ones(shape.hidden, dtype=torch.bfloat16)
    tensors = {
        "model.embed_tokens.weight": drawn(shape.vocabulary, shape.hidden),
        "lm_head.weight": drawn(shape.vocabulary, shape.hidden),
        "model.norm.weight": ones.clone(),
    }
    for number in range(shape.num_layers):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": ones.clone(),
            f"{layer}.post_attention_layernorm.weight": ones.clone(),
            f"{layer}.self_attn.q_proj.weight": drawn(shape.hidden, shape.hidden),
            f"{layer}.self_attn.k_proj.weight": drawn(key_value, shape.hidden),
            f"{layer}.self_attn.v_proj.weight": drawn(key_value, shape.hidden),
            f"{layer}.self_attn.o_proj.weight": drawn(shape.hidden, shape.hidden),
            f"{layer}.mlp.gate_proj.weight": drawn(shape.intermediate, shape.hidden),
            f"{layer}.mlp.up_proj.weight": drawn(shape.intermediate, shape.hidden),
            f"{layer}.mlp.down_proj.weight": drawn(shape.hidden, shape.intermediate),
        }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
