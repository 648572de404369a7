"""One verdict as a page for the terminal: what came of it, what failed where, what was measured and on which terms.

Decides nothing. Whatever the candidate wrote is shown as plain text, never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from agent import wording
from agent.figures_text import floor_bytes
from agent.plan_view import bytes_text
from sandbox.feedback import PATTERN_WORDS, find_hint, lead, percent
from sandbox.isolation import LAYERS
from sandbox.occupancy import occupancy
from sandbox.types import Candidate, Failure, KernelFigures, Mismatch, Performance, Problem, Status, Verdict

CONTEXT_LINES = 2  # of the candidate's text, before and after the one at fault
MAX_LINE_CHARACTERS = 160
KERNEL_FIGURES = ("kernel", "registers", "spills", "shared", "warps", "grid", "launches")
KERNEL_COLUMNS = 80  # of a terminal: on fewer a line of a kernel's figures is not to be read

LABEL_WORDS = {
    "triton": "the output comes from the candidate's Triton kernels alone",
    "mixed": "the output depends on Triton kernels and on torch operators that compute",
    "torch": "the output is computed by torch operators, not by a kernel of the candidate's",
    "dead": "kernels are launched, but no output depends on one",
    "none": "nothing is computed",
    "empty": "the outputs have no elements",
    "dead_launches": "some launches have no effect on any output",
    "names_restored": "imports names that this PyTorch has removed; they were restored",
    "autotune_capped": "more autotuning configurations than are tried; the first were",
    "weights_by_name": "weights were matched by name",
    "weights_by_seed": "weights were drawn in the same order, not matched by name",
    "weights_mixed": "some weights were matched by name, the others drawn in the same order",
    "weights_none": "the module has no weights",
    "varies_within_tolerance": "answers differ from run to run, within the tolerance",
    "raced_out": "timing ended once it could not be its problem's best",
    "not_timed": "it passed, but could not be timed",
    "short_of_memory": "more of the GPU's memory might make another verdict of it",
    "precision_ieee": "the kernels' matrix products are IEEE ones",
    "precision_tf32": "some matrix product of a kernel is computed in TF32",
    "precision_fp16_accumulate": "some matrix product of a kernel is summed up in fp16",
}


def verdict_page(
    verdict: Verdict, *, problem: Problem, candidate: Candidate, capability: int, layers: Sequence[str]
) -> Group:
    """The whole page. `capability` is that of the GPU that the kernels were compiled for: 90 is sm_90. `layers` are
    those of isolation that stood around the candidate's processes."""
    parts: list[RenderableType] = [_headline(verdict, problem=problem), Text()]
    rows = _rows()
    for name, told in (*_facts(verdict), ("isolation", layers_text(layers))):
        rows.add_row(name, Text(wording.printable(told)))
    parts.append(rows)
    if verdict.failure is not None:
        parts += [Text(), *_failure_parts(verdict.status, verdict.failure, source=candidate.source)]
    if verdict.kernels:
        parts += [Text(), _Kernels(kernels=verdict.kernels, capability=capability)]
    if verdict.performance is not None:
        parts += [Text(), _times_table(verdict.performance), _conditions(verdict.performance)]
    return Group(*parts)


def _headline(verdict: Verdict, *, problem: Problem) -> Text:
    style = {Status.PASSED: "bold green", Status.UNVERIFIED: "bold yellow"}.get(verdict.status, "bold red")
    line = Text(verdict.status.value, style=style)
    line.append(f"  {problem.id}: {lead(verdict.status, verdict.failure)}", style="default")
    if verdict.performance is not None:
        line.append(f"  {wording.speedup_text(verdict)} against {verdict.performance.against}", style="bold")
    return line


def _rows() -> Table:
    """Names and what is told of them, whole however narrow the terminal is: ids are there to be copied."""
    columns = Column(no_wrap=True), Column(overflow="fold")
    return Table(*columns, show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for number, label in enumerate(verdict.labels):
        words = LABEL_WORDS.get(label)
        yield "" if number else "labels", label if words is None else f"{label}: {words}"
    correctness, performance = verdict.correctness, verdict.performance
    if correctness is None:
        yield "checked", "no values were compared"
    else:
        yield "checked", f"by {correctness.checked_by}, weights {correctness.weights}"
        yield (
            "errors",
            (f"largest {_ratio(correctness.max_error_ratio)}, rms {_ratio(correctness.rms_error_ratio)} of the bound"),
        )
        yield "seeds", ", ".join(map(str, correctness.seeds))
        yield "under", ", ".join(f"{key} {value}" for key, value in correctness.conditions.items())
    if performance is None:
        yield "speedup", wording.NOT_TIMED
    else:
        yield "policy", performance.conditions.get("precision", "not stated")
    stages = [f"{stage} {seconds:.2f} s" for stage, seconds in verdict.stage_seconds.items()]
    yield "stages", ", ".join(stages) or "none"
    yield "candidate", verdict.candidate_id
    yield "plan", verdict.plan_hash or "none"
    if verdict.gpu is not None:
        yield "GPU", verdict.gpu


def layers_text(layers: Sequence[str]) -> str:
    """Those that held, and by name those that did not."""
    missing = [name for name in LAYERS if name not in layers]
    told = f"{len(layers)} of {len(LAYERS)} layers held: {', '.join(layers)}"
    return f"{told}; without {', '.join(missing)}" if missing else told


def _ratio(ratio: float | None) -> str:
    return "not finite" if ratio is None else f"{ratio:.3g}"


def _failure_parts(status: Status, failure: Failure, *, source: str) -> Iterator[RenderableType]:
    rows = _rows()
    rows.add_row("failed", Text(wording.printable(f"{failure.error_class}: {failure.message}")))
    if failure.mismatch is not None:
        for name, told in _mismatch_facts(failure.mismatch):
            rows.add_row(name, Text(wording.printable(told)))
    if (hint := find_hint(status, failure)) is not None:
        rows.add_row("hint", Text(hint))
    yield rows
    yield from _context(failure, source=source)


def _mismatch_facts(mismatch: Mismatch) -> Iterator[tuple[str, str]]:
    index = ", ".join(map(str, mismatch.first_bad_index))
    yield "where", f"{mismatch.output}, first at [{index}]; {percent(mismatch.share_wrong)} of the elements are wrong"
    yield "expected", f"{mismatch.expected:.9g}"
    yield "got", f"{mismatch.got:.9g}"
    if mismatch.pattern is not None:
        yield "pattern", PATTERN_WORDS[mismatch.pattern][0]


def _context(failure: Failure, *, source: str) -> Iterator[Text]:
    """The candidate's own lines around the one at fault."""
    at, lines = failure.line_number, source.splitlines()
    if at is None or not 1 <= at <= len(lines):
        if failure.source_line is not None:
            yield Text(f"  {wording.printable(failure.source_line)}")
        return
    for number in range(max(1, at - CONTEXT_LINES), min(len(lines), at + CONTEXT_LINES) + 1):
        mark, style = (">", "bold") if number == at else (" ", "dim")
        yield Text(
            f"{mark} {number:>4}  {wording.printable(lines[number - 1])[:MAX_LINE_CHARACTERS]}",
            style=style,
            no_wrap=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernels:
    """One line a kernel, or where there is no room for it one line a figure. Occupancy is CUDA's formula on what the
    compiler told; nothing of it was measured."""

    kernels: tuple[KernelFigures, ...]
    capability: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = (*KERNEL_FIGURES, f"occupancy on sm_{self.capability}")
        lines = [
            (*_kernel_cells(kernel), _occupancy_text(kernel, capability=self.capability)) for kernel in self.kernels
        ]
        if options.max_width >= KERNEL_COLUMNS:
            name, *figures, occupied = heads
            columns = Column(name, overflow="fold"), *(Column(head, no_wrap=True) for head in figures), Column(occupied)
            table = Table(*columns, box=None, pad_edge=False)
            for line in lines:
                table.add_row(*map(Text, line))
            yield table
            return
        rows = _rows()
        for line in lines:
            for head, cell in zip(heads, line, strict=True):
                rows.add_row(head, Text(cell))
        yield rows


def _kernel_cells(kernel: KernelFigures) -> tuple[str, ...]:
    """In the order of `KERNEL_FIGURES`."""
    return (
        wording.printable(kernel.name),
        str(kernel.registers),
        bytes_text(kernel.local_bytes) if kernel.local_bytes else "none",
        bytes_text(kernel.shared_bytes),
        str(kernel.num_warps),
        " x ".join(map(str, kernel.grid)),
        str(kernel.launches),
    )


def _occupancy_text(kernel: KernelFigures, *, capability: int) -> str:
    found = occupancy(
        capability=capability,
        registers=kernel.registers,
        shared_bytes=kernel.shared_bytes,
        num_warps=kernel.num_warps,
    )
    return "not known" if found is None else f"{found.share:.0%}, limited by {found.limited_by}"


def _times_table(performance: Performance) -> Table:
    table = Table("", "us", "candidate is", box=None, pad_edge=False)
    table.add_row("candidate", f"{performance.runtime_us:.2f}", "")
    for name, time_us in performance.baseline_us.items():
        against = " (the fastest: the speedup is against it)" if name == performance.against else ""
        table.add_row(name, f"{time_us:.2f}", f"{time_us / performance.runtime_us:.2f}x as fast{against}")
    if (floor_us := performance.floor_us) is not None:
        table.add_row("roofline", f"{floor_us:.2f}", roofline_text(performance, floor_us=floor_us))
    if performance.python_call_us is not None:
        table.add_row("python call", f"{performance.python_call_us:.2f}", "wall time, as its own process tells it")
    return table


def roofline_text(performance: Performance, *, floor_us: float) -> str:
    """How near a candidate comes to the roofline, and the bytes that it stands for."""
    told = f"at {floor_us / performance.runtime_us:.0%} of what moving the bytes once allows"
    num_bytes = floor_bytes(performance)
    return told if num_bytes is None else f"{told}: {bytes_text(num_bytes)} at least"


def _conditions(performance: Performance) -> Table:
    rows = _rows()
    rows.add_row("repetitions", Text(str(performance.repetitions)))
    for key, value in performance.conditions.items():
        if key != "precision":
            rows.add_row(key, Text(wording.printable(value)))
    return rows
