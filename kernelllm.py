"""KernelLLM's own interface, as its model card has it: PyTorch modules in, Triton out. `python kernelllm.py` is a REPL.

    from kernelllm import KernelLLM

    model = KernelLLM()
    print(model.generate_triton(pytorch_code, max_new_tokens=512))
    print(model.generate_triton(pytorch_code, verified=True, n=20))

What a model answers is a claim. With `verified=True` candidates are judged as `kernelloop run` judges them, failures
are given back to the model to mend, and the best kernel that passed is returned. A thin face over `agent`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.checkpoint import locate, read_checkpoint
from agent.plain_text import as_data
from agent.prompts import CHECKPOINT_SLOT, read_training_template
from agent.sampler import PromptRefused
from agent.tokens import Bos, Tokens
from agent.verified import NoKernelPassed, Task, find_kernel

__all__ = ["KernelLLM", "NoKernelPassed"]

HF_MODEL = "facebook/KernelLLM"
# The card's own settings. Its table of scores was made at temperature 1.0 and top_p 0.97.
TEMPERATURE, TOP_P, TOP_K, MAX_NEW_TOKENS = 0.6, 0.95, 0, 2048
BATCH_SIZE = 16
NUM_SAMPLES = 20

REPL_INSTRUCTIONS = """
Paste a PyTorch module below, with `get_inputs()` and `get_init_inputs()`, and end it with Ctrl+D.
Nothing at all shows what becomes of an example; `exit` ends."""

EXAMPLE = """import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, y):
        return torch.relu(x + y)


def get_inputs():
    return [torch.randn(128, 256), torch.randn(128, 256)]


def get_init_inputs():
    return []
"""


class KernelLLM:
    """A checkpoint, loaded once: a folder, or the id of a model on the Hugging Face hub.

    On a GPU it is in the type that it was saved in, on a CPU in float32. `seed` makes the answers the same again, call
    by call; without it they are drawn anew. `bos` is as `sampler.bos` of a run. `threads` bounds the cores that answers
    are computed on; None is half of them, since threads that wait for cores that others use slow an answer down.
    """

    def __init__(
        self,
        model_name: str = HF_MODEL,
        device: str | None = None,
        *,
        seed: int | None = None,
        bos: Bos = "as_shipped",
        threads: int | None = None,
    ) -> None:
        """`device` None takes a GPU where there is one. Raises CheckpointError, PromptError and what torch raises."""
        from agent.decoding import Decoder
        from agent.transformers_sampler import default_threads

        folder = locate(model_name)
        checkpoint = read_checkpoint(folder)
        self.model_name = model_name
        self._folder = folder
        self._bos: Bos = bos
        self._context_tokens = checkpoint.context_tokens
        self._template = read_training_template(folder)
        self._tokens = Tokens(folder, bos=bos)
        self._threads = threads or default_threads()
        self._dice = random.Random(seed)
        self._decoder = Decoder.load(checkpoint, device=device or "auto", num_slots=BATCH_SIZE)
        self.device = self._decoder.device

    def generate_triton(
        self,
        code: str,
        temperature: float = TEMPERATURE,
        max_new_tokens: int = MAX_NEW_TOKENS,
        *,
        verified: bool = False,
        n: int = NUM_SAMPLES,
        run_dir: str | Path | None = None,
    ) -> str:
        """The model's answer to `code`, a module in KernelBench form, with `get_inputs()` and `get_init_inputs()`.

        With `verified`, the source of the best kernel among at most `n` answers that passed and was confirmed, never
        one that was not; without a GPU nothing is timed, and the best is the first that passed. `run_dir` keeps the
        run's folder. Raises NoKernelPassed where there is none, and PromptRefused where `code` is too long.
        """
        if not verified:
            return self.generate_raw(self._prompt_of(code), temperature, max_new_tokens)
        sampler: dict[str, Any] = {
            "kind": "transformers",
            "model": str(self._folder),
            "temperature": float(temperature),
            "top_p": TOP_P,
            "top_k": TOP_K,
            "max_tokens": min(max_new_tokens, self._context_tokens // 2),  # repairs need room for what failed
            "bos": self._bos,
            "batch_size": BATCH_SIZE,
            "threads": self._threads,
        }
        task = Task(code=code, sampler=sampler, num_samples=n, seed=self._dice.getrandbits(31))
        found = find_kernel(
            task,
            open_sampler=self._open_sampler,
            run_dir=None if run_dir is None else Path(run_dir),
            on_gpu=self.device.startswith("cuda"),
        )
        return found.candidate.source

    def generate_raw(self, prompt: str, temperature: float = TEMPERATURE, max_new_tokens: int = MAX_NEW_TOKENS) -> str:
        """The answer to `prompt` as it stands, white space around it aside. Raises PromptRefused."""
        return self._tokens.decode(self._answer_ids(prompt, temperature, max_new_tokens)).strip()

    def stream_raw(self, prompt: str, max_new_tokens: int = MAX_NEW_TOKENS, temperature: float = TEMPERATURE) -> None:
        """Prints the answer to `prompt` while it comes. Raises PromptRefused."""
        for piece in self.pieces(prompt, temperature, max_new_tokens):
            print(piece, end="", flush=True)
        print()

    def pieces(
        self, prompt: str, temperature: float = TEMPERATURE, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> Iterator[str]:
        """The answer to `prompt` piece by piece. Raises PromptRefused."""
        return self._tokens.pieces(self._answer_ids(prompt, temperature, max_new_tokens))

    def run_repl(self) -> None:
        """Reads modules from standard input, each to its end of file, and prints the answers to them."""
        while True:
            print(REPL_INSTRUCTIONS)
            code = sys.stdin.read().strip()
            if code.lower() == "exit":
                return
            if not code:
                code = EXAMPLE
                print(f"An example:\n{code}")
            try:
                self.stream_raw(self._prompt_of(code))
            except PromptRefused as error:
                print(error)
            except KeyboardInterrupt:
                print("given up")
            if not sys.stdin.isatty():
                return

    def _prompt_of(self, code: str) -> str:
        return self._template.replace(CHECKPOINT_SLOT, as_data(code, special_names=self._tokens.special_names))

    def _answer_ids(self, prompt: str, temperature: float, max_new_tokens: int) -> Iterator[int]:
        """Token ids as they are chosen, without the one that ends the answer."""
        from agent.decoding import Order

        prompt_ids = self._tokens.encode(prompt)
        room = self._context_tokens - len(prompt_ids)
        if room < 1:
            raise PromptRefused(
                f"{self.model_name}: the prompt has {len(prompt_ids)} tokens, and the context {self._context_tokens}; "
                "give a shorter module, or take a model with a larger context"
            )
        order = Order(
            prompt_ids=prompt_ids,
            seed=self._dice.getrandbits(31),
            temperature=temperature,
            top_p=TOP_P,
            top_k=TOP_K,
            max_tokens=min(max_new_tokens, room),
        )
        return self._answered(order)

    def _answered(self, order: Any) -> Iterator[int]:
        """What the caller's other work may use of this machine is the caller's own again afterwards."""
        before = self._decoder.use_threads(self._threads)
        try:
            yield from self._decoder.answer(order)
        finally:
            self._decoder.use_threads(before)

    def _open_sampler(self, run: Any) -> Any:
        from agent.transformers_sampler import TransformersSampler

        return TransformersSampler(run.sampler, load=lambda: self._decoder)


def main() -> int:
    """The exit code: 0 done, 1 ours, 2 the user's mistake."""
    parser = argparse.ArgumentParser(description="Turn PyTorch modules into Triton with KernelLLM.")
    parser.add_argument("model", nargs="?", default=HF_MODEL, help="a checkpoint's folder, or a hub's id")
    parser.add_argument("--device", default=None, help="such as cpu or cuda:1; a GPU where there is one")
    arguments = parser.parse_args()
    try:
        KernelLLM(arguments.model, arguments.device).run_repl()
    except (ValueError, OSError) as error:
        from agent import blame

        print(f"kernelllm: {error}", file=sys.stderr)
        return blame.exit_code(error) or blame.OURS_CODE  # an error of none of our types is not the user's
    return 0


if __name__ == "__main__":
    sys.exit(main())
