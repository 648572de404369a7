"""One training under way: network, optimiser, how far it is, and the file that it goes on from.

Knows nothing of limits on time or of checkpoints for others. A step is a function of what stands here and of the step's
number, so training that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from standin.batches import Batch, plan_epoch, widths_of
from standin.checkpoint import WEIGHTS_FILE
from standin.corpus import Corpus, Weights
from standin.model import IGNORED, Llama, Shape, loss_of
from standin.schedule import Schedule

BETAS = (0.9, 0.95)
CLIP = 1.0
MAX_HELD_OUT_BATCHES = 8
# One shape each width, forward and backward; torch gives up compiling after fewer.
MAX_COMPILED_SHAPES = 64


class StateError(ValueError):
    """A state file is not usable here. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the weights, besides the examples, the shape and the schedule."""

    seed: int
    tokens_per_batch: int
    num_widths: int
    weight_decay: float
    dropout: float
    weights: Weights
    device: str
    compiled: bool


class Trainer:
    """`step` counts the steps done. Weights are float32; on a GPU products are in bfloat16."""

    def __init__(self, shape: Shape, *, settings: Settings, train: Corpus, held_out: Corpus, data_hash: str) -> None:
        torch.manual_seed(settings.seed)
        self.step = 0
        self.model = Llama(shape, dropout=settings.dropout).to(settings.device)
        self._settings = settings
        self._train, self._held_out = train, held_out
        self._widths = widths_of([*train.lengths, *held_out.lengths], count=settings.num_widths)
        self._epoch: tuple[int, list[Batch]] = (0, self._plan(0))
        self._fingerprint = _fingerprint(shape, settings, data_hash=data_hash)
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        kept = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=settings.device == "cuda")
        self._loss_of = loss_of
        if settings.compiled:
            self._compile()

    @property
    def steps_per_epoch(self) -> int:
        return len(self._epoch[1])

    def learn(self, schedule: Schedule) -> tuple[Tensor, int]:
        """One step: its mean loss over answer tokens by their weights, in nats, left on the device, and how many places
        it had."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        if epoch != self._epoch[0]:
            self._epoch = (epoch, self._plan(epoch))
        batch = self._epoch[1][place]
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate(self.step)
        ids, targets = self._train.tensors(batch)
        weights = self._train.weights(batch, self._settings.weights)
        learnt = (weights * (targets != IGNORED)).sum()
        if self._settings.dropout:  # so that what is dropped depends on the step alone
            torch.manual_seed(self._settings.seed * 10**9 + self.step)
        with self._precision():
            loss = self._loss_of(self.model(ids), self.model.embedding, targets, weights) / learnt
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.detach(), batch.width * len(batch.rows)

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Mean over the answer tokens of the first batches of the held-out split, in nats; the same ones each time."""
        size = self._settings.tokens_per_batch
        plan = plan_epoch(self._held_out.lengths, widths=self._widths, tokens_per_batch=size, seed=0, epoch=0)
        total, count = torch.zeros((), dtype=torch.float64), 0
        self.model.eval()
        # Without gradients the compiled layers would be compiled once more.
        stance = torch.compiler.set_stance("force_eager") if self._settings.compiled else nullcontext()
        with stance, self._precision():
            for batch in plan[:MAX_HELD_OUT_BATCHES]:
                ids, targets = self._held_out.tensors(batch)
                total += loss_of(self.model(ids), self.model.embedding, targets).double().cpu()
                count += int((targets != IGNORED).sum())
        self.model.train()
        return float(total) / count

    def begin_from(self, folder: Path) -> None:
        """Takes the weights of a checkpoint. Raises StateError where there are none, or none of this shape."""
        try:
            self.model.load_state_dict(load_file(folder / WEIGHTS_FILE, device=self._settings.device))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise StateError(f"{folder}: its weights cannot be taken: {error}") from error

    def save(self, path: Path, *, progress: dict[str, Any]) -> None:
        """Whole or not at all. `progress` is plain values, handed back by `load`."""
        state = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": progress,
        }
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    def load(self, path: Path) -> dict[str, Any]:
        """Raises StateError where there is no state, or one of another training."""
        try:
            state = torch.load(path, map_location=self._settings.device, weights_only=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise StateError(f"{path}: cannot be read: {error}") from error
        if state["fingerprint"] != self._fingerprint:
            raise StateError(f"{path}: is of other examples, another shape or other settings")
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        progress: dict[str, Any] = state["progress"]
        return progress

    def _plan(self, epoch: int) -> list[Batch]:
        settings = self._settings
        return plan_epoch(
            self._train.lengths,
            widths=self._widths,
            tokens_per_batch=settings.tokens_per_batch,
            seed=settings.seed,
            epoch=epoch,
        )

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", dtype=torch.bfloat16) if self._settings.device == "cuda" else nullcontext()

    def _compile(self) -> None:
        """Layer by layer: all share the code of one, which keeps the compiler's time to seconds a width."""
        torch._dynamo.config.recompile_limit = MAX_COMPILED_SHAPES
        for layer in self.model.model.layers:
            layer.compile(dynamic=False)
        self._loss_of = torch.compile(loss_of, dynamic=False)


def _fingerprint(shape: Shape, settings: Settings, *, data_hash: str) -> str:
    """Where it runs and whether it is compiled is left out: a training may move."""
    asked = {key: value for key, value in asdict(settings).items() if key not in ("device", "compiled")}
    return hashlib.sha256(f"{asdict(shape)} {asked} {data_hash}".encode()).hexdigest()
