"""A checkpoint's folder, read as data: what model it holds, how much it can read at once, what ends an answer.

Knows nothing of prompts, and loads no weights. Nothing in the folder is ever executed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
# What is fetched for the id of a model on a hub: all that sampling needs, and no code but the prompt's own file.
WANTED = ["*.json", "*.safetensors", "prompt_template.txt", "repair.txt", "improve.txt", "kernelllm.py"]

# By the names of its errors, the more special first.
HUB_REASONS = {
    "GatedRepoError": "it is for those who were given access; log in there",
    "RepositoryNotFoundError": "it has no such model",
    "LocalEntryNotFoundError": "it is out of reach, and nothing was fetched before",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and nothing was fetched before",
}


class CheckpointError(ValueError):
    """A checkpoint is not usable: the user's to mend. One line that names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of itself. `context_tokens` bounds prompt and answer together."""

    folder: Path
    architecture: str
    context_tokens: int
    eos_ids: frozenset[int]
    full_attention: bool


def locate(model: str) -> Path:
    """The folder of `model`: itself if it is one, else where the hub's files for that id are kept, fetched if need be.

    Raises CheckpointError.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.count("/") != 1:
        raise CheckpointError(f"{model}: is neither a folder nor a model's id, such as facebook/KernelLLM")
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"{model}: no such folder; fetching it by id needs: pip install huggingface_hub"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=WANTED))
    except (OSError, ValueError) as error:  # what its own errors derive from
        raise CheckpointError(
            f"{model}: no such folder; as a model's id it cannot be fetched from the hub: {_hub_reason(error)}"
        ) from error


def _hub_reason(error: OSError | ValueError) -> str:
    """In a few words where they are known: the hub's own are a paragraph."""
    names = {kind.__name__ for kind in type(error).__mro__}
    for name, reason in HUB_REASONS.items():
        if name in names:
            return reason
    return " ".join(str(error).split())


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises CheckpointError."""
    config = read_mapping(folder / CONFIG)
    architectures = config.get("architectures")
    if not (isinstance(architectures, list) and architectures and isinstance(architectures[0], str)):
        raise CheckpointError(f"{folder / CONFIG}: architectures: names no model")
    return Checkpoint(
        folder=folder,
        architecture=architectures[0],
        context_tokens=_context_of(config, path=folder / CONFIG),
        eos_ids=_eos_of(folder, config=config),
        full_attention=_full_attention(config),
    )


def read_mapping(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: holds no keys and values")
    return raw


def _context_of(config: dict[str, Any], *, path: Path) -> int:
    value = config.get("max_position_embeddings")
    if not isinstance(value, int) or value < 2:
        raise CheckpointError(f"{path}: max_position_embeddings: says nothing of the context's size")
    return value


def _eos_of(folder: Path, *, config: dict[str, Any]) -> frozenset[int]:
    """The generation settings go before the model's own. Raises CheckpointError where neither ends an answer."""
    generation = read_mapping(folder / GENERATION_CONFIG) if (folder / GENERATION_CONFIG).exists() else {}
    for held in (generation, config):
        value = held.get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        if found := frozenset(item for item in ids if isinstance(item, int)):
            return found
    raise CheckpointError(
        f"{folder}: eos_token_id: neither {GENERATION_CONFIG} nor {CONFIG} says which token ends an answer"
    )


def _full_attention(config: dict[str, Any]) -> bool:
    """Whether every layer sees all tokens before its own."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return all(kind == "full_attention" for kind in kinds)
    window = config.get("sliding_window")
    return window is None or config.get("use_sliding_window") is False
