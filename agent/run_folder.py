"""The folder of one run: the one owner of its paths and of how its files are written.

Knows nothing of what the configuration or the verdicts mean beyond stating them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sandbox.types import Candidate, Observation, Problem, Verdict

EXPERIMENT = "experiment.yaml"  # in an experiment's folder, which is no run's


class RunFolderError(RuntimeError):
    """A run folder cannot be made, found or written. One line."""


class RunFolder:
    """Files are replaced as a whole, never edited; a reader sees the old text or the new."""

    def __init__(self, root: Path) -> None:
        """Use `create` or `open`."""
        self.root = root

    @classmethod
    def create(cls, run_dir: str | Path | None, *, runs: Path, now: datetime) -> Self:
        """A new, empty folder: `run_dir`, or one under `runs` named after `now`. Raises RunFolderError."""
        try:
            if run_dir is None:
                return cls(dated_folder(runs, now=now))
            root = Path(run_dir).absolute()
            root.mkdir(parents=True, exist_ok=True)
            if any(root.iterdir()):
                raise RunFolderError(f"run_dir: {root} is not empty; resume the run in it, or name another folder")
        except OSError as error:
            raise RunFolderError(f"run_dir: cannot make a folder: {error.filename}: {error.strerror}") from error
        return cls(root)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that was begun. Raises RunFolderError."""
        folder = cls(Path(path).absolute())
        if not folder.config.is_file():
            hint = "; the runs of an experiment are in its cells/" if (folder.root / EXPERIMENT).is_file() else ""
            raise RunFolderError(f"{path}: is no run folder: it has no {folder.config.name}{hint}")
        return folder

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def report(self) -> Path:
        return self.root / "report.md"

    @property
    def html_report(self) -> Path:
        return self.root / "report.html"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def faults(self) -> Path:
        return self.root / "faults.jsonl"

    def candidate(self, problem_id: str, candidate_id: str) -> Path:
        return self.root / "candidates" / problem_id / f"{candidate_id}.py"

    def best(self, problem_id: str) -> Path:
        return self.root / "best" / f"{problem_id}.py"

    def evidence(self, problem_id: str) -> Path:
        return self.root / "evidence" / problem_id

    def read_environment(self) -> dict[str, Any]:
        """Raises RunFolderError."""
        try:
            found: dict[str, Any] = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.environment}: cannot be read: {error}") from error
        return found

    def write_config(self, text: str) -> None:
        replace_file(self.config, text=text, durable=True)

    def write_environment(self, record: Mapping[str, object]) -> None:
        replace_file(self.environment, text=json.dumps(dict(record), indent=2) + "\n", durable=True)

    def write_report(self, text: str) -> None:
        replace_file(self.report, text=text, durable=True)

    def write_html_report(self, text: str) -> None:
        replace_file(self.html_report, text=text, durable=True)

    def write_progress(self, text: str) -> None:
        """Not forced to disk: it is out of date a second later."""
        replace_file(self.progress, text=text, durable=False)

    def write_candidate(self, candidate: Candidate) -> None:
        """Not forced to disk: the ledger holds the source too."""
        path = self.candidate(candidate.problem_id, candidate.id)
        if not path.exists():
            replace_file(path, text=candidate.source, durable=False)

    def remove_best(self, problem_id: str) -> None:
        """Raises RunFolderError."""
        path = self.best(problem_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be removed: {error}") from error

    def write_best(self, problem: Problem, observation: Observation, *, confirmed: bool) -> None:
        """The source under a comment that states what was verified, how, and on what terms.

        The seeds are left out: as long as a search goes on, a candidate that reads them knows what it will be given.
        """
        lines = _header(problem, observation=observation, confirmed=confirmed)
        header = "\n".join(f"# {' '.join(line.split())}" for line in lines)
        replace_file(self.best(problem.id), text=f"{header}\n\n{observation.candidate.source}", durable=True)


def _header(problem: Problem, *, observation: Observation, confirmed: bool) -> Iterator[str]:
    candidate, verdict = observation.candidate, observation.verdict
    yield f"Best kernel found for problem {problem.id} ({problem.origin})"
    yield f"candidate: {candidate.id} ({candidate.operator})"
    yield f"status: {verdict.status}"
    yield f"confirmed: {'yes, judged anew with fresh seeds and processes' if confirmed else 'no'}"
    yield f"speedup: {_speedup(verdict)}"
    if (correctness := verdict.correctness) is not None:
        yield f"checked by: {correctness.checked_by}, {len(correctness.seeds)} secret input seeds"
        yield f"weights: {correctness.weights}"
        yield from (f"checked under: {name}: {value}" for name, value in correctness.conditions.items())
    if (performance := verdict.performance) is not None:
        yield f"runtime: {performance.runtime_us:.3f} us, {performance.repetitions} repetitions"
        yield from (f"baseline {name}: {time_us:.3f} us" for name, time_us in performance.baseline_us.items())
        yield from (f"timed under: {name}: {value}" for name, value in performance.conditions.items())
    yield f"labels: {', '.join(verdict.labels) or 'none'}"


def _speedup(verdict: Verdict) -> str:
    p = verdict.performance
    if p is None:
        return "not timed"
    return f"{p.speedup:.3f} (95 % interval {p.speedup_low:.3f} to {p.speedup_high:.3f})"


def dated_folder(runs: Path, *, now: datetime, kind: str | None = None) -> Path:
    """A new one, named after `now` and `kind`. Made here, so that two runs begun in one second never share it."""
    runs = runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    name = now.strftime("%Y-%m-%d-%H%M%S") + ("" if kind is None else f"-{kind}")
    number = 1
    while True:
        root = runs / (name if number == 1 else f"{name}-{number}")
        try:
            root.mkdir()
        except FileExistsError:
            number += 1
        else:
            return root


def replace_file(path: Path, *, text: str, durable: bool) -> None:
    """Writes beside `path`, then renames over it. `durable` waits for the disk. Raises RunFolderError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path}: cannot be written: {error}") from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
