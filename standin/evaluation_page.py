"""An evaluation as a page of Markdown tables. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from standin.estimates import Estimate
from standin.evaluation import Comparison, Evaluation


def evaluation_page(evaluation: Evaluation) -> str:
    parts = [
        f"{evaluation.num_problems} problems of {evaluation.num_asked}, {evaluation.num_drafts} drafts each; the "
        "others were not reached or cannot be judged. Mean tokens of a draft: "
        f"{evaluation.mean_prompt_tokens:.0f} read, {evaluation.mean_completion_tokens:.0f} written; "
        f"{evaluation.truncated} cut off. Intervals are 95 %, over problems.",
        _pass_table(evaluation),
        f"Drafts: {_counts(evaluation.statuses)}.",
    ]
    if evaluation.repair_statuses:
        parts.append(f"Repairs: {_counts(evaluation.repair_statuses)}.")
    if evaluation.mended is not None:
        parts.append(f"Mended by one repair: {_percent(evaluation.mended)} of {evaluation.num_repairs} failures.")
    if evaluation.comparisons:
        parts.append(_comparison_table(evaluation.comparisons))
    return "\n\n".join(parts) + "\n"


def _pass_table(evaluation: Evaluation) -> str:
    rows = [f"| {k} | {_percent(estimate)} |" for k, estimate in evaluation.pass_at.items()]
    if len(evaluation.pass_at_1_of) > 1:
        rows += [f"| 1, {group} alone | {_percent(found)} |" for group, found in evaluation.pass_at_1_of.items()]
    return "\n".join(["| k | pass@k |", "|---|---|", *rows])


def _comparison_table(comparisons: tuple[Comparison, ...]) -> str:
    rows = [
        f"| {c.tokens} | {c.compared} ({c.left_out} left out) | {_percent(c.repaired)} | {_percent(c.redrawn)} "
        f"| {_percent(c.difference)} |"
        for c in comparisons
    ]
    head = "| tokens counted | compared | mended by one repair | by drawing again | difference |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{status} {count}" for status, count in statuses.items()) or "none"
