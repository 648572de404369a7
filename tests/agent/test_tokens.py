"""A checkpoint read as data: its tokens, the begin-of-text token, what ends an answer, folders that are not usable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from agent.checkpoint import CheckpointError, locate, read_checkpoint
from agent.tokens import Tokens

TEMPLATE = "\n<|begin_of_text|>import torch"


@pytest.mark.parametrize(
    ("bos", "num_bos", "first"), [("as_shipped", 2, True), ("single", 1, True), ("none", 0, False)]
)
def test_the_begin_of_text_token_is_doubled_as_shipped_or_single_or_absent(
    tiny_checkpoint: Path, bos: str, num_bos: int, first: bool
) -> None:
    tokens = Tokens(tiny_checkpoint, bos=bos)  # type: ignore[arg-type]
    ids = tokens.encode(TEMPLATE)
    assert ids.count(tokens.bos_id or 0) == num_bos
    assert (ids[0] == tokens.bos_id) is first
    rest = Tokens(tiny_checkpoint, bos="none").encode(TEMPLATE)
    assert tuple(id for id in ids if id != tokens.bos_id) == rest
    assert tokens.count(TEMPLATE) == len(ids)


def test_text_survives_encoding_and_decoding_whole_and_in_pieces(tiny_checkpoint: Path) -> None:
    tokens = Tokens(tiny_checkpoint, bos="none")
    text = "def f(x):\n    return 'ümläut → 🙂'\n"
    ids = tokens.encode(text)
    assert tokens.decode(ids) == text
    pieces = list(tokens.pieces(ids))
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert len(pieces) > 5
    cut = ids[:-5]  # in the midst of a character
    assert "".join(tokens.pieces(cut)) == tokens.decode(cut)


def test_special_tokens_are_no_part_of_an_answer(tiny_checkpoint: Path) -> None:
    tokens = Tokens(tiny_checkpoint, bos="none")
    eos = min(read_checkpoint(tiny_checkpoint).eos_ids)
    assert tokens.decode((*tokens.encode("x"), eos)) == "x"


def test_what_ends_an_answer_is_taken_from_the_generation_settings_first(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    assert len(read_checkpoint(folder).eos_ids) > 1
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert read_checkpoint(folder).eos_ids == {7}
    (folder / "generation_config.json").unlink()
    assert read_checkpoint(folder).eos_ids == {json.loads((folder / "config.json").read_text())["eos_token_id"]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", None, "config.json: is missing"),
        ("config.json", "{", "config.json: cannot be read as JSON"),
        ("config.json", "[]", "config.json: holds no keys"),
        ("config.json", '{"max_position_embeddings": 9}', "architectures: names no model"),
        ("config.json", '{"architectures": ["X"], "eos_token_id": 1}', "max_position_embeddings: says nothing"),
        ("generation_config.json", '{"eos_token_id": [', "generation_config.json: cannot be read"),
        ("tokenizer.json", None, "tokenizer.json: is missing"),
        ("tokenizer.json", "{}", "tokenizer.json: is no tokeniser"),
        ("tokenizer_config.json", '{"bos_token": "<no>"}', "bos_token: '<no>' is not in tokenizer.json"),
    ],
)
def test_an_unusable_folder_is_told_in_one_line(
    tmp_path: Path, tiny_checkpoint: Path, name: str, content: str | None, says: str
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
        Tokens(folder, bos="single")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_a_begin_of_text_token_cannot_have_a_single_one(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (folder / "tokenizer_config.json").write_text("{}")
    _edit(folder / "config.json", lambda config: config.pop("bos_token_id"))
    with pytest.raises(CheckpointError, match="names no begin-of-text token"):
        Tokens(folder, bos="single")
    assert Tokens(folder, bos="none").encode("x") == Tokens(tiny_checkpoint, bos="none").encode("x")


def test_a_window_of_attention_is_noticed(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    assert read_checkpoint(folder).full_attention
    _edit(folder / "config.json", lambda config: config.update(sliding_window=128))
    assert not read_checkpoint(folder).full_attention
    _edit(folder / "config.json", lambda config: config.update(use_sliding_window=False))
    assert read_checkpoint(folder).full_attention


def test_an_id_that_is_on_no_disk_and_cannot_be_fetched_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    assert locate(str(tiny_checkpoint)) == tiny_checkpoint
    with pytest.raises(CheckpointError, match="neither a folder nor a model's id"):
        locate("no/such/folder")

    def no_network(*_: object, **__: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(CheckpointError, match="cannot be fetched from the hub: no route to host"):
        locate("facebook/KernelLLM")

    def out_of_reach(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("a paragraph with advice")

    monkeypatch.setattr("huggingface_hub.snapshot_download", out_of_reach)
    with pytest.raises(CheckpointError, match="from the hub: it is out of reach, and nothing was fetched before"):
        locate("facebook/KernelLLM")


def _edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
