"""A checkpoint is what transformers expects: the same logits, the same tokens, and an end where ours is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from standin.checkpoint import write_checkpoint
from standin.model import Llama, Shape, logits_of
from standin.prompt_files import TEMPLATE_FILES, TEMPLATES
from standin.tokenizer import BEGIN, END, PAD, id_of, train_tokenizer
from tests.standin.tiny_pairs import tiny_pair

TEXT = tiny_pair(1, split="train").answer
SHAPE = Shape(vocabulary=384, width=32, num_layers=2, num_heads=4, mlp_width=40, context=64)


@pytest.fixture(scope="module")
def model() -> Llama:
    torch.manual_seed(0)
    drawn = Llama(SHAPE)
    for parameter in drawn.parameters():  # so far from their start that a swapped or missing one shows
        torch.nn.init.normal_(parameter, std=0.3)
        parameter.data = parameter.data.bfloat16().float()  # what the file can hold
    return drawn


@pytest.fixture(scope="module")
def folder(model: Llama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = train_tokenizer([TEXT], vocabulary=384)
    write_checkpoint(folder, weights=model.state_dict(), shape=SHAPE, tokenizer=tokenizer, record={"seed": 1})
    return folder


def test_transformers_computes_what_we_do(model: Llama, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, 384, (2, 40), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, logits_of(model(ids), model.embedding), rtol=1e-4, atol=1e-4)
    assert theirs.num_parameters() == SHAPE.num_parameters


def test_transformers_reads_the_tokenizer_as_we_do(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = train_tokenizer([TEXT], vocabulary=384)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    text = f"{BEGIN}<|problem|>\n{TEXT}"
    assert theirs(text)["input_ids"] == ours.encode(text).ids
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == (BEGIN, END, PAD)
    assert theirs.decode([*ours.encode(TEXT).ids, theirs.eos_token_id], skip_special_tokens=True) == TEXT
    ending = transformers.GenerationConfig.from_pretrained(folder)
    assert (ending.eos_token_id, ending.pad_token_id) == (id_of(END, tokenizer=ours), id_of(PAD, tokenizer=ours))


def test_a_checkpoint_carries_its_templates_and_its_record(folder: Path) -> None:
    for name in TEMPLATE_FILES:
        assert (folder / name).read_bytes() == (TEMPLATES / name).read_bytes()
    assert json.loads((folder / "training.json").read_text()) == {"seed": 1}


def test_the_default_shape_fits_the_repository(folder: Path) -> None:
    from standin.train import parse_options

    chosen = parse_options(["--data", "x", "--out", "y", "--steps", "1"])
    shape = Shape(
        vocabulary=3072, width=chosen.width, num_layers=chosen.layers, num_heads=chosen.heads,
        mlp_width=chosen.mlp_width, context=2048,
    )  # fmt: skip
    assert 2 * shape.num_parameters < 16 * 2**20 - 2**17
