"""Figures that others published, as reference points: never measured here, never averaged with what was.

Whatever shows one names its source and its terms, because problems, judge and hardware were others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """`score` is the share of problems solved, in percent; `k` is None where the source gives none."""

    model: str
    parameters: str
    score: float
    k: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A table as it stands in `source`."""

    source: str
    terms: str
    points: tuple[PublishedPoint, ...]


KERNELLLM_CARD = PublishedTable(
    source="model card of facebook/KernelLLM (README.md, Model Performance)",
    terms=(
        "KernelBench-Triton level 1, correctness only, on an H100; KernelLLM at temperature 1.0 and top_p 0.97, "
        "nothing is said of the others' settings; judged by KernelBench's own evaluation, not by this one"
    ),
    points=(
        PublishedPoint(model="KernelLLM", parameters="8B", score=20.2, k=1),
        PublishedPoint(model="KernelLLM", parameters="8B", score=51.8, k=10),
        PublishedPoint(model="KernelLLM", parameters="8B", score=57.1, k=20),
        PublishedPoint(model="DeepSeek V3", parameters="671B", score=16.0, k=1),
        PublishedPoint(model="GPT-4o", parameters="~200B", score=15.0, k=1),
        PublishedPoint(model="Qwen2.5", parameters="32B", score=15.0, k=1),
        PublishedPoint(model="Llama 3.3", parameters="70B", score=13.0, k=1),
        PublishedPoint(model="Llama 3.1", parameters="8B", score=14.0, k=20),
        PublishedPoint(model="Llama 3.1", parameters="8B", score=6.0, k=1),
        PublishedPoint(model="Llama R1 Distill", parameters="70B", score=11.0, k=None),  # "reasoning" in the card
        PublishedPoint(model="DeepSeek R1", parameters="671B", score=30.0, k=1),
    ),
)
