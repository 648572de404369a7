"""Training a model of a few thousand weights: the same for the same seed, also when it was stopped and resumed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from standin.batches import Batch
from standin.checkpoint import WEIGHTS_FILE
from standin.corpus import CHANGED, COPIED, TokenSequence, Weights, read_corpus, write_sequences
from standin.model import IGNORED, Llama, Shape, loss_of
from standin.schedule import Schedule
from standin.trainer import Settings, StateError, Trainer
from standin.training import End, Limits, Rhythm, Training

SHAPE = Shape(vocabulary=32, width=16, num_layers=2, num_heads=2, mlp_width=24, context=64)
PAD_ID = 2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads wait for each other where cores are shared, and there is nothing to share out here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers that say their prompt again: there is something to learn."""
    draw = random.Random(0)
    copies = [tuple(draw.choices(range(3, 32), k=draw.randint(4, 25))) for _ in range(40)]
    sequences = [
        TokenSequence(ids=(*copy, 1, *copy, 0), num_prompt=len(copy) + 1, marks=bytes(len(copy) + 1)) for copy in copies
    ]
    path = tmp_path_factory.mktemp("encoded") / "sequences.safetensors"
    write_sequences({"train": sequences[:32], "held_out": sequences[32:]}, path)
    return path


def new_training(
    encoded: Path, state: Path, *, num_steps: int | None, seed: int = 1, clock: Callable[[], float] = lambda: 0.0
) -> tuple[Training, Trainer]:
    settings = Settings(
        seed=seed, tokens_per_batch=256, num_widths=2, weight_decay=0.1, dropout=0.1, device="cpu", compiled=False,
        weights=Weights(copied=0.5, changed=3.0),
    )  # fmt: skip
    train, held_out = (read_corpus(encoded, split=split, device="cpu", pad=PAD_ID) for split in ("train", "held_out"))
    trainer = Trainer(SHAPE, settings=settings, train=train, held_out=held_out, data_hash="hash")
    schedule = Schedule(peak_rate=1e-2, warmup_steps=4, num_steps=num_steps)
    rhythm = Rhythm(tell_steps=2, held_out_steps=100, save_seconds=1e9)
    training = Training(trainer, schedule=schedule, state=state, rhythm=rhythm, clock=clock, tell=lambda _: None)
    return training, trainer


def steps(num_steps: int, *, pause_at: int | None = None) -> Limits:
    return Limits(num_steps=num_steps, deadline=None, pause_at=pause_at)


def test_a_resumed_training_ends_with_the_weights_of_one_that_was_not_stopped(encoded: Path, tmp_path: Path) -> None:
    whole, uninterrupted = new_training(encoded, tmp_path / "whole.pt", num_steps=12)
    assert whole.run(steps(12)) is End.COMPLETED
    first, stopped = new_training(encoded, tmp_path / "parts.pt", num_steps=12)
    assert first.run(steps(12, pause_at=9)) is End.PAUSED
    second, resumed = new_training(encoded, tmp_path / "parts.pt", num_steps=12)
    second.resume()
    assert resumed.step == stopped.step == 9
    assert second.run(steps(12)) is End.COMPLETED
    assert uninterrupted.steps_per_epoch < 9  # the seam is not in the first epoch
    for name, weight in uninterrupted.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_training_lowers_the_loss_and_another_seed_gives_other_weights(encoded: Path, tmp_path: Path) -> None:
    training, trainer = new_training(encoded, tmp_path / "a.pt", num_steps=12)
    before = trainer.held_out_loss()
    training.run(steps(12))
    assert trainer.held_out_loss() < before - 0.05
    _, other = new_training(encoded, tmp_path / "b.pt", num_steps=12, seed=2)
    _, again = new_training(encoded, tmp_path / "b.pt", num_steps=12, seed=1)
    _, first = new_training(encoded, tmp_path / "b.pt", num_steps=12, seed=1)
    assert torch.equal(again.model.embedding, first.model.embedding)
    assert not torch.equal(again.model.embedding, other.model.embedding)


def test_held_out_losses_drop_nothing(encoded: Path, tmp_path: Path) -> None:
    _, trainer = new_training(encoded, tmp_path / "a.pt", num_steps=1)
    assert trainer.held_out_loss() == trainer.held_out_loss()
    batch = Batch(width=64, rows=(0, 1))
    ids, _ = read_corpus(encoded, split="train", device="cpu", pad=PAD_ID).tensors(batch)
    assert not torch.equal(trainer.model(ids), trainer.model(ids))  # while in training they differ


def test_a_training_begins_from_the_weights_of_a_checkpoint(encoded: Path, tmp_path: Path) -> None:
    training, first = new_training(encoded, tmp_path / "a.pt", num_steps=3)
    training.run(steps(3))
    save_file({name: each.contiguous() for name, each in first.model.state_dict().items()}, tmp_path / WEIGHTS_FILE)
    _, second = new_training(encoded, tmp_path / "b.pt", num_steps=3, seed=2)
    second.begin_from(tmp_path)
    assert torch.equal(second.model.embedding, first.model.embedding) and second.step == 0
    save_file({"another": torch.zeros(1)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(StateError, match="cannot be taken"):
        second.begin_from(tmp_path)


def test_a_state_of_another_training_is_refused(encoded: Path, tmp_path: Path) -> None:
    training, _ = new_training(encoded, tmp_path / "state.pt", num_steps=3)
    training.run(steps(3))
    other_seed, _ = new_training(encoded, tmp_path / "state.pt", num_steps=3, seed=2)
    with pytest.raises(StateError, match="other settings"):
        other_seed.resume()
    other_steps, _ = new_training(encoded, tmp_path / "state.pt", num_steps=5)
    with pytest.raises(StateError, match="of 3 steps, not 5"):
        other_steps.resume()
    without, _ = new_training(encoded, tmp_path / "nothing.pt", num_steps=3)
    with pytest.raises(StateError, match="cannot be read"):
        without.resume()


def test_a_deadline_sets_the_number_of_steps_from_the_pace(encoded: Path, tmp_path: Path) -> None:
    """The clock moves by a second each time it is read, so a pace can be told without waiting for one."""
    ticks = itertools.count()
    training, trainer = new_training(encoded, tmp_path / "state.pt", num_steps=None, clock=lambda: float(next(ticks)))
    end = training.run(Limits(num_steps=None, deadline=14.0, pause_at=None))
    assert training.progress.num_steps is not None
    assert trainer.step == training.progress.num_steps if end is End.COMPLETED else end is End.OUT_OF_TIME
    assert trainer.step > 4  # past the warm-up
    again, same = new_training(encoded, tmp_path / "again.pt", num_steps=training.progress.num_steps)
    again.run(steps(training.progress.num_steps, pause_at=trainer.step))
    assert torch.equal(trainer.model.embedding, same.model.embedding)


def test_either_a_number_of_steps_or_a_deadline() -> None:
    with pytest.raises(ValueError, match="either"):
        Limits(num_steps=None, deadline=None, pause_at=None)
    with pytest.raises(ValueError, match="either"):
        Limits(num_steps=1, deadline=1.0, pause_at=None)


def test_the_rate_warms_up_and_falls() -> None:
    schedule = Schedule(peak_rate=1.0, warmup_steps=10, num_steps=110)
    rates = [schedule.rate(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[59] == pytest.approx(0.51)
    assert rates[-1] == pytest.approx(0.02)
    with pytest.raises(ValueError, match="not set"):
        Schedule(peak_rate=1.0, warmup_steps=10, num_steps=None).rate(10)


def test_only_answers_are_targets_and_padding_is_none(tmp_path: Path) -> None:
    sequences = [
        TokenSequence(ids=(5, 6, 7, 8), num_prompt=2, marks=bytes((COPIED, CHANGED))),
        TokenSequence(ids=(9, 10), num_prompt=1, marks=bytes(1)),
    ]
    write_sequences({"train": sequences}, tmp_path / "sequences.safetensors")
    corpus = read_corpus(tmp_path / "sequences.safetensors", split="train", device="cpu", pad=2)
    ids, targets = corpus.tensors(Batch(width=5, rows=(1, 0)))
    assert ids.tolist() == [[9, 10, 2, 2, 2], [5, 6, 7, 8, 2]]
    skip = IGNORED
    assert targets.tolist() == [[10, skip, skip, skip, skip], [skip, 7, 8, skip, skip]]
    weights = corpus.weights(Batch(width=5, rows=(1, 0)), Weights(copied=0.25, changed=4.0))
    assert weights[0, 0] == 1.0 and weights[1, 1:3].tolist() == [0.25, 4.0]


def test_a_loss_counts_each_answer_token_by_its_weight() -> None:
    torch.manual_seed(0)
    model = Llama(SHAPE)
    ids, targets = torch.randint(0, 32, (1, 6)), torch.tensor([[IGNORED, 4, 5, 6, 7, IGNORED]])
    hidden, weights = model(ids).detach(), torch.tensor([[9.0, 1.0, 0.0, 3.0, 0.0, 9.0]])
    first, third = torch.full_like(targets, IGNORED), torch.full_like(targets, IGNORED)
    first[0, 1], third[0, 3] = 4, 6
    alone = loss_of(hidden, model.embedding, first) + 3 * loss_of(hidden, model.embedding, third)
    weighted = loss_of(hidden, model.embedding, targets, weights)
    assert float(weighted.detach()) == pytest.approx(float(alone.detach()), rel=1e-5)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Llama(SHAPE)
    ids, targets = torch.randint(0, 32, (1, 20)), torch.randint(0, 32, (1, 20))
    padded = torch.cat((ids, torch.full((1, 9), 2)), dim=1)
    without = torch.cat((targets, torch.full((1, 9), IGNORED)), dim=1)
    whole, longer = (
        loss_of(model(given), model.embedding, wanted) for given, wanted in ((ids, targets), (padded, without))
    )
    assert float(whole.detach()) == pytest.approx(float(longer.detach()), rel=1e-5)
