"""Writes a checkpoint folder: weights, configuration, tokenizer, templates, and how it came about.

Knows nothing of training. The files are those that transformers and vLLM load without code of ours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from standin.model import Shape
from standin.prompt_files import TEMPLATE_FILES, TEMPLATES
from standin.tokenizer import BEGIN, END, PAD, id_of, write_tokenizer

WEIGHTS_FILE = "model.safetensors"
RECORD_FILE = "training.json"


def copy_templates(folder: Path) -> None:
    for name in TEMPLATE_FILES:
        shutil.copyfile(TEMPLATES / name, folder / name)


def write_checkpoint(
    folder: Path, *, weights: Mapping[str, Tensor], shape: Shape, tokenizer: Tokenizer, record: Mapping[str, object]
) -> None:
    """Everything, weights in bfloat16. `record` tells seed, steps, data and losses; it goes to `training.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(tokenizer, folder, context=shape.context)
    copy_templates(folder)
    _write_json(folder / "config.json", _config(shape, tokenizer=tokenizer))
    _write_json(folder / "generation_config.json", _special_ids(tokenizer))
    halves = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(halves, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    _write_json(folder / RECORD_FILE, record)


def _config(shape: Shape, *, tokenizer: Tokenizer) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_heads,
        "head_dim": shape.width // shape.num_heads,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        **_special_ids(tokenizer),
    }


def _special_ids(tokenizer: Tokenizer) -> dict[str, object]:
    names = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}
    return {key: id_of(token, tokenizer=tokenizer) for key, token in names.items()}


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
