"""Trains the stand-in on prepared examples and writes its checkpoint.

    python -m standin.train --data FOLDER --out FOLDER (--steps N | --minutes M) [--resume] [--device cuda --compile]

Knows nothing of text or judging. On the CPU a training that was stopped and resumed gives the same weights as one that
was not; on a GPU the same up to the order of additions.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import tokenizers
import torch
from tokenizers import Tokenizer

from standin.checkpoint import RECORD_FILE, write_checkpoint
from standin.corpus import Weights, read_corpus
from standin.model import Shape
from standin.prepared import FOLDER, SEQUENCES_FILE, PreparationError, Prepared, read_prepared
from standin.schedule import Schedule
from standin.tokenizer import PAD, id_of, read_tokenizer
from standin.trainer import Settings, StateError, Trainer
from standin.training import End, Limits, Progress, Rhythm, Training

STATE_FILE = "state.pt"
VOCABULARY_STEP = 64  # rows of the embedding come in multiples of this, which multiply faster
# Of a time limit, kept for the last held-out loss and for writing the checkpoint.
RESERVE_SECONDS = 10.0
SAVE_SECONDS = 60.0
# What the record tells of the options.
OPTIONS = (
    "batch_tokens", "widths", "rate", "warmup", "weight_decay", "dropout", "copied_weight", "changed_weight",
)  # fmt: skip


def main() -> None:
    options = parse_options()
    started = time.monotonic()
    try:
        prepared = read_prepared(options.data)
        end = train(options, prepared=prepared, started=started)
    except (PreparationError, StateError) as error:
        raise SystemExit(f"train: {error}") from error
    print(f"{end.value} after {time.monotonic() - started:.0f} s")


def train(options: argparse.Namespace, *, prepared: Prepared, started: float) -> End:
    """Trains until a limit, and writes the checkpoint that it leaves. Raises StateError."""
    tokenizer = read_tokenizer(options.data / FOLDER)
    shape = Shape(
        vocabulary=-(-prepared.vocabulary // VOCABULARY_STEP) * VOCABULARY_STEP,
        width=options.width,
        num_layers=options.layers,
        num_heads=options.heads,
        mlp_width=options.mlp_width,
        context=prepared.context,
    )
    trainer = open_trainer(options, prepared=prepared, shape=shape, pad=id_of(PAD, tokenizer=tokenizer))
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(
        trainer,
        schedule=Schedule(peak_rate=options.rate, warmup_steps=options.warmup, num_steps=options.steps),
        state=options.state or options.out / STATE_FILE,
        rhythm=Rhythm(tell_steps=options.tell, held_out_steps=options.held_out_steps, save_seconds=SAVE_SECONDS),
        clock=time.monotonic,
        tell=lambda line: print(line, flush=True),
    )
    if options.resume:
        training.resume()
    elif options.begin_from is not None:
        begin_from(options.begin_from, trainer=trainer, tokenizer=tokenizer)
    print(f"{shape.num_parameters:,} parameters, {trainer.steps_per_epoch} steps an epoch", flush=True)
    deadline = None if options.minutes is None else started + 60 * options.minutes - RESERVE_SECONDS
    end = training.run(Limits(num_steps=options.steps, deadline=deadline, pause_at=options.pause_at))
    record = record_of(training.progress, trainer=trainer, end=end, shape=shape, options=options, prepared=prepared)
    weights = trainer.model.state_dict()
    write_checkpoint(options.out, weights=weights, shape=shape, tokenizer=tokenizer, record=record)
    return end


def begin_from(folder: Path, *, trainer: Trainer, tokenizer: Tokenizer) -> None:
    """Raises StateError where a checkpoint is of another shape, or its tokens are others."""
    if read_tokenizer(folder).to_str() != tokenizer.to_str():
        raise StateError(f"{folder}: has another tokenizer; prepare the data with --tokenizer {folder}")
    trainer.begin_from(folder)


def open_trainer(options: argparse.Namespace, *, prepared: Prepared, shape: Shape, pad: int) -> Trainer:
    path: Path = options.data / FOLDER / SEQUENCES_FILE
    settings = Settings(
        seed=options.seed,
        tokens_per_batch=options.batch_tokens,
        num_widths=options.widths,
        weight_decay=options.weight_decay,
        dropout=options.dropout,
        weights=Weights(copied=options.copied_weight, changed=options.changed_weight),
        device=options.device,
        compiled=options.compile,
    )
    train, held_out = (read_corpus(path, split=s, device=options.device, pad=pad) for s in ("train", "held_out"))
    return Trainer(shape, settings=settings, train=train, held_out=held_out, data_hash=prepared.data_hash)


def record_of(
    progress: Progress, *, trainer: Trainer, end: End, shape: Shape, options: argparse.Namespace, prepared: Prepared
) -> dict[str, Any]:
    """What `training.json` says: how these weights came about, and how to have them again."""
    cuda = options.device == "cuda"
    return {
        "what": "a stand-in for trying and testing the loop; its scores are not to be compared with published models",
        "seed": options.seed,
        "steps": trainer.step,
        "steps_planned": progress.num_steps,
        "end": end.value,
        "epochs": round(trainer.step / trainer.steps_per_epoch, 2),
        "tokens_with_padding": progress.num_places,
        "seconds": round(progress.seconds, 1),
        "parameters": shape.num_parameters,
        "shape": asdict(shape),
        "options": {name: getattr(options, name) for name in OPTIONS},
        "data": asdict(prepared),
        "begun_from": None
        if options.begin_from is None
        else json.loads((options.begin_from / RECORD_FILE).read_bytes()),
        "train_losses": progress.train_losses,
        "held_out_losses": progress.held_out_losses,
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
            "safetensors": safetensors.__version__,
        },
    }


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m standin.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that python -m standin.prepare has prepared")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and state")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--steps", type=int)
    limit.add_argument("--minutes", type=float, help="of wall time, from start to checkpoint")
    parser.add_argument("--resume", action="store_true", help="go on from the state")
    parser.add_argument("--begin-from", type=Path, help="a checkpoint whose weights are the first; not with --resume")
    parser.add_argument("--pause-at", type=int, help="stop at this step, to be resumed")
    parser.add_argument("--state", type=Path, help="file to go on from; else state.pt in --out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, default=131_072, help="places in a step, padding included")
    parser.add_argument("--widths", type=int, default=4, help="row lengths that batches come in, at most")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at its peak")
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument(
        "--copied-weight", type=float, default=1.0, help="of a repair's token that the attempt has; a draft's have 1"
    )
    parser.add_argument("--changed-weight", type=float, default=4.0, help="of one that it has not, or that comes after")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--mlp-width", type=int, default=704)
    parser.add_argument("--tell", type=int, default=50, help="steps between lines of progress")
    parser.add_argument("--held-out-steps", type=int, default=500, help="steps between held-out losses")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
