"""Says what this machine offers for running and judging, what is missing, and what that disables.

Decides from an environment record and the isolation probe; knows nothing of how either was made. Changes nothing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.config import RayConfig
from agent.crew_sizes import TRACERS_PER_JUDGE, crew_sizes
from agent.engine_config import EngineConfig
from sandbox.environment import Gpu, Value

# A trace child may use this much (docs/benchmarks.md says what one does use).
CHILD_BYTES = 3 * 2**29
TESTED = {"torch": ("2.11", "2.13"), "triton": ("3.6", "3.7"), "ray": ("2.60", "2.60")}


class State(StrEnum):
    """How a finding bears on what can be done here."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


STYLES = {State.OK: "green", State.LIMITED: "yellow", State.MISSING: "red"}
TABLE_WIDTH = 70  # of a screen that has room for a table of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked for. `consequence` is what its absence disables; None where nothing is."""

    name: str
    found: str
    state: State
    consequence: str | None = None


def examine(
    environment: Mapping[str, Value], *, isolation: Mapping[str, bool], gpus: Sequence[Gpu], visible: Sequence[Gpu]
) -> list[Finding]:
    """Everything that `kernelloop doctor` shows, in the order shown. `visible` are those of the machine's `gpus` that
    are not hidden from this process."""
    return [
        *(package(name, found=environment.get(name)) for name in TESTED),
        assembler(ptxas_path()),
        *gpu(environment),
        *(each_gpu(found, visible=found in visible) for found in gpus),
        *machine(environment),
        *crew(environment["cores"], gpus=visible),
        *(layer(name, on=on) for name, on in isolation.items()),
    ]


def package(name: str, *, found: Value) -> Finding:
    """One of the packages whose version matters."""
    low, high = TESTED[name]
    if found is None:
        lost = "ray.pool: ray; ray.pool: serial works" if name == "ray" else "judging: nothing can be traced"
        return Finding(name=name, found="not installed", state=State.MISSING, consequence=lost)
    if not parts(low) <= parts(str(found))[:2] <= parts(high):
        tested = low if low == high else f"{low} to {high}"
        return Finding(name=name, found=str(found), state=State.LIMITED, consequence=f"not tested here: {tested} are")
    return Finding(name=name, found=str(found), state=State.OK)


def parts(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" gives (2, 13, 0)."""
    numbers = version.split("+")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdigit())


def ptxas_path() -> Path | None:
    """The assembler that ships inside Triton, or the one named by Triton's own variable; None if there is neither."""
    if (named := os.environ.get("TRITON_PTXAS_PATH")) is not None:
        return Path(named) if Path(named).is_file() else None
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    return path if path.is_file() else None


def assembler(path: Path | None) -> Finding:
    if path is None:
        return Finding(
            name="ptxas", found="not found", state=State.MISSING, consequence="compiling kernels, hence every verdict"
        )
    return Finding(name="ptxas", found="in Triton", state=State.OK)


def gpu(environment: Mapping[str, Value]) -> list[Finding]:
    """The GPU, and the driver's Python interface where there is a GPU."""
    if environment["gpu"] is None:
        lost = "timing; small problems are checked by the interpreter, larger ones stay unverified"
        return [Finding(name="GPU", found="none", state=State.LIMITED, consequence=lost)]
    found = f"{environment['num_gpus']} x {environment['gpu']}, driver {environment['driver']}"
    bindings = environment.get("cuda-bindings")
    return [
        Finding(name="GPU", found=found, state=State.OK),
        Finding(
            name="cuda-bindings",
            found="not installed" if bindings is None else str(bindings),
            state=State.MISSING if bindings is None else State.OK,
            consequence="replay on the GPU: pip install 'kernelloop[gpu]'" if bindings is None else None,
        ),
    ]


def each_gpu(found: Gpu, *, visible: bool) -> Finding:
    """By the names that CUDA_VISIBLE_DEVICES, verdicts and reports have for it."""
    memory = "" if found.memory_mib is None else f", {found.memory_mib} MiB"
    lost = None
    if not visible:
        lost = "judges and engines on it: CUDA_VISIBLE_DEVICES hides it, or names MIG slices"
    elif found.sliced:
        lost = "its use as a whole: it is in MIG slices, to be named by UUID in CUDA_VISIBLE_DEVICES"
    return Finding(
        name=f"GPU {found.index}",
        found=f"{found.model}{memory}, {found.uuid}",
        state=State.OK if lost is None else State.LIMITED,
        consequence=lost,
    )


def crew(cores: Value, *, gpus: Sequence[Gpu]) -> list[Finding]:
    """What a run on all of this machine would be: judges and tracers, and where engines sample here too."""
    if not gpus or not isinstance(cores, int):
        return []
    models = sorted({found.model for found in gpus})
    if len(models) > 1:
        lost = "judges on all GPUs: speedups on unlike ones do not compare; CUDA_VISIBLE_DEVICES names those to use"
        return [Finding(name="crew", found=" and ".join(models), state=State.LIMITED, consequence=lost)]
    alone = crew_sizes(RayConfig(), replaying=True, engines=None, num_cores=cores, num_gpus=len(gpus))
    place = "shared" if len(gpus) == 1 else "own"
    engines = EngineConfig(placement=place)  # type: ignore[arg-type]  # one of the two
    beside = crew_sizes(RayConfig(), replaying=True, engines=engines, num_cores=cores, num_gpus=len(gpus))
    told = f"{counted(alone.num_judges, 'judge')} and {counted(alone.num_tracers, 'tracer')}; with vLLM "
    told += f"{counted(beside.num_judges, 'judge')} and {counted(beside.num_engines, 'engine')}, placement: {place}"
    needed = alone.num_judges * (TRACERS_PER_JUDGE + 1)
    short = alone.num_tracers < alone.num_judges * TRACERS_PER_JUDGE
    lost = f"keeping every judge busy: {TRACERS_PER_JUDGE} tracers each do that, on {needed} cores in all"
    return [
        Finding(
            name="crew",
            found=told,
            state=State.LIMITED if short else State.OK,
            consequence=lost if short else None,
        )
    ]


def counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def machine(environment: Mapping[str, Value]) -> list[Finding]:
    """Cores, and whether there is memory for a child on each of them."""
    cores, memory = environment["cores"], environment["memory_bytes"]
    findings = [Finding(name="cores", found=str(cores), state=State.OK)]
    if isinstance(memory, int) and isinstance(cores, int):
        fitting = memory // CHILD_BYTES
        short = fitting < cores
        findings.append(
            Finding(
                name="memory",
                found=f"{memory / 2**30:.1f} GiB",
                state=State.LIMITED if short else State.OK,
                consequence=f"tracing on every core: room for about {fitting} at once" if short else None,
            )
        )
    return findings


def layer(name: str, *, on: bool) -> Finding:
    return Finding(
        name=name.replace("_", " "),
        found="available" if on else "not available",
        state=State.OK if on else State.LIMITED,
        consequence=None if on else "judge.isolation: strict (it refuses to run without it)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsView:
    """The findings as the command line shows them; `consequence` names the last column."""

    findings: Sequence[Finding]
    consequence: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table, or where its columns would be too narrow for words, lines below each other."""
        if options.max_width >= TABLE_WIDTH:
            yield self._table()
        else:
            yield from self._lines()

    def _table(self) -> Table:
        drawn = Table(box=None, pad_edge=False)
        for head in ("what", "found", "", self.consequence):
            drawn.add_column(head, overflow="fold")  # a path's end, which is cut off otherwise, is what names the file
        for item in self.findings:
            drawn.add_row(item.name, escape(item.found), _state(item), escape(item.consequence or ""))
        return drawn

    def _lines(self) -> Iterator[RenderableType]:
        for item in self.findings:
            yield Text.assemble(_state(item), f" {item.name}: {item.found}")
            if item.consequence is not None:
                yield Padding(Text(f"{self.consequence}: {item.consequence}"), (0, 0, 0, 4))


def _state(item: Finding) -> Text:
    return Text(item.state, style=STYLES[item.state])


def table(findings: Sequence[Finding], *, consequence: str = "what that disables") -> FindingsView:
    """What `Console.print` takes."""
    return FindingsView(findings=findings, consequence=consequence)
