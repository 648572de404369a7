"""What preparing leaves for training: its files' names, and its record.

Knows nothing of how examples become integers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "prepared"
SEQUENCES_FILE = "sequences.safetensors"
RECORD_FILE = "prepared.json"


class PreparationError(ValueError):
    """The examples, or what was made of them, are not usable: the user's to mend. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was made. Counts are by split; `unjudged` came from the generator as they are, `renamed` are judged ones
    under other names than those under which they were judged, `left_out` are longer than `context` tokens. What
    `namings` asked for and could not be had is in `not_renamed`, by why."""

    data_hash: str
    vocabulary: int
    context: int
    num_examples: Mapping[str, int]
    unjudged: Mapping[str, int]
    namings: int
    renamed: Mapping[str, int]
    not_renamed: Mapping[str, int]
    left_out: Mapping[str, int]
    num_tokens: Mapping[str, int]
    median_tokens: float
    longest: int


def read_prepared(data: Path) -> Prepared:
    """Of the folder that was prepared. Raises PreparationError."""
    path = data / FOLDER / RECORD_FILE
    try:
        return Prepared(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PreparationError(f"{path}: cannot be read ({error}); make it with python -m standin.prepare") from error


def write_prepared(prepared: Prepared, data: Path) -> None:
    text = json.dumps(asdict(prepared), indent=2) + "\n"
    (data / FOLDER / RECORD_FILE).write_text(text, encoding="utf-8")
