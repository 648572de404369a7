"""Preparing examples for training: what is counted, left out and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from standin.corpus import CHANGED, DRAFTED
from standin.examples import write_examples
from standin.pairs import pair
from standin.prepare import prepare
from standin.prepared import FOLDER, SEQUENCES_FILE, PreparationError, read_prepared
from standin.tokenizer import read_tokenizer
from tests.standin.tiny_pairs import tiny_pair, tiny_repair


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 12), ("held_out", 3)):
        drafts = [tiny_pair(seed, split=split) for seed in range(count)]
        repairs = [tiny_repair(seed, split=split) for seed in range(count // 2)]
        write_examples([*drafts, *repairs], folder / f"{split}.jsonl")
    prepare(folder, vocabulary=384, context=2048, workers=1)
    return folder


def test_preparing_counts_what_is_too_long(data: Path, tmp_path: Path) -> None:
    for name in ("train.jsonl", "held_out.jsonl"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    whole = read_prepared(data)
    short = prepare(tmp_path, vocabulary=384, context=400, workers=1)
    assert whole.left_out == {"train": 0, "held_out": 0}
    assert short.left_out["train"] + short.num_examples["train"] == whole.num_examples["train"] == 18
    assert 0 < short.left_out["train"] < 18
    assert short.data_hash != whole.data_hash


def test_preparing_needs_both_splits(tmp_path: Path) -> None:
    write_examples([tiny_pair(0, split="train")], tmp_path / "train.jsonl")
    with pytest.raises(PreparationError, match="no example of split 'held_out'"):
        prepare(tmp_path, vocabulary=384, context=400, workers=1)
    with pytest.raises(PreparationError, match=r"standin\.prepare"):
        read_prepared(tmp_path)


def test_repairs_are_marked_and_drafts_are_not(data: Path) -> None:
    tensors = load_file(data / FOLDER / SEQUENCES_FILE)
    assert tensors["train.marks"].dtype == torch.uint8 and tensors["train.marks"].shape == tensors["train.ids"].shape
    marked = [int(piece.max()) for piece in _pieces(data, "marks")]
    assert marked.count(CHANGED) == 6 and marked.count(DRAFTED) == 12


def test_the_order_of_lines_does_not_matter(data: Path, tmp_path: Path) -> None:
    lines = [line for name in ("train", "held_out") for line in (data / f"{name}.jsonl").read_text().splitlines()]
    (tmp_path / "all.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert prepare(tmp_path, vocabulary=384, context=2048, workers=1) == read_prepared(data)
    ours, theirs = (load_file(folder / FOLDER / SEQUENCES_FILE) for folder in (tmp_path, data))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_pairs_of_the_generator_are_added_unjudged_and_a_known_tokenizer_is_kept(data: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes((data / "train.jsonl").read_bytes())
    known = read_tokenizer(data / FOLDER)
    made = prepare(
        tmp_path, vocabulary=384, context=4096, workers=1, drafts=range(7, 12), held_out=range(3), known=known
    )
    assert made.num_examples == {"train": 18 + 5, "held_out": 3} and made.unjudged == {"train": 5, "held_out": 3}
    assert read_tokenizer(tmp_path / FOLDER).to_str() == known.to_str()
    lengths = load_file(tmp_path / FOLDER / SEQUENCES_FILE)["train.lengths"]
    answer = len(known.encode(pair(9, split="train").answer).ids)
    assert int(lengths.max()) > answer  # the tiny pairs are shorter than any of the generator's


def test_judged_training_examples_come_once_more_for_each_naming(data: Path, tmp_path: Path) -> None:
    (tmp_path / "held_out.jsonl").write_bytes((data / "held_out.jsonl").read_bytes())
    (tmp_path / "train.jsonl").write_bytes((data / "train.jsonl").read_bytes())
    whole = read_prepared(data)
    made = prepare(tmp_path, vocabulary=384, context=2048, workers=1, namings=3, drafts=range(7, 9))
    assert (made.namings, made.renamed, made.not_renamed) == (3, {"train": 2 * 18, "held_out": 0}, {})
    assert made.num_examples == {"train": 3 * 18 + 2, "held_out": whole.num_examples["held_out"]}
    assert made.data_hash != whole.data_hash
    kinds = [int(piece.max()) for piece in _pieces(tmp_path, "marks")]
    assert kinds.count(CHANGED) == 3 * 6
    once, thrice = ({tuple(piece.tolist()) for piece in _pieces(folder, "ids")} for folder in (data, tmp_path))
    assert len(thrice) > 2.5 * len(once)


def test_copies_of_an_example_are_named_each_in_its_own_way(data: Path, tmp_path: Path) -> None:
    (tmp_path / "held_out.jsonl").write_bytes((data / "held_out.jsonl").read_bytes())
    write_examples([tiny_repair(1, split="train")] * 4, tmp_path / "attempts.jsonl")
    prepare(tmp_path, vocabulary=384, context=4096, workers=1, namings=3)
    ids = [tuple(piece.tolist()) for piece in _pieces(tmp_path, "ids")]
    assert len(ids) == 4 * 3 and len(set(ids)) == 1 + 4 * 2


def test_how_many_namings_there_are_is_at_least_one(data: Path) -> None:
    with pytest.raises(PreparationError, match="--namings 0"):
        prepare(data, vocabulary=384, context=2048, workers=1, namings=0)


def _pieces(folder: Path, what: str) -> tuple[torch.Tensor, ...]:
    tensors = load_file(folder / FOLDER / SEQUENCES_FILE)
    return torch.split(tensors[f"train.{what}"], tensors["train.lengths"].tolist())
