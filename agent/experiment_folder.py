"""The folder of one experiment: the one owner of its paths, of what it was begun with, and of which cells are finished.

A cell's own folder is an ordinary run's. Knows nothing of how cells are run or compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import yaml

from agent.config_section import ConfigError
from agent.experiment_config import ANALYSIS, Cell, Experiment, first_difference
from agent.run_folder import EXPERIMENT, RunFolder, RunFolderError, dated_folder, replace_file


class ExperimentFolder:
    """Files are replaced as a whole. Raises RunFolderError where the disk does not do as it is told."""

    def __init__(self, root: Path) -> None:
        """Use `begin_or_resume`."""
        self.root = root

    @classmethod
    def begin_or_resume(cls, experiment: Experiment, *, resume: bool, runs: Path, now: datetime) -> Self:
        """The folder that the experiment names; without a name a new one under `runs`, or with `resume` the newest
        there that was begun with the same definition. Raises ConfigError where it holds something else."""
        if experiment.run_dir is not None:
            folder = cls(Path(experiment.run_dir).absolute())
        elif resume:
            folder = cls(_newest(experiment, runs=runs))
        else:
            folder = cls(dated_folder(runs, now=now, kind="compare"))
        if folder.definition.is_file():
            folder._check_definition(experiment)
        elif resume:
            raise ConfigError(f"{experiment.path}: run_dir: {folder.root} holds no experiment to resume")
        elif folder.root.is_dir() and any(folder.root.iterdir()):
            raise ConfigError(f"{experiment.path}: run_dir: {folder.root} is not empty and holds no experiment")
        try:
            folder.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            told = f"{experiment.path}: run_dir: cannot make a folder: {folder.root}: {error.strerror}"
            raise ConfigError(told) from error
        replace_file(folder.definition, text=_definition_text(experiment), durable=True)
        return folder

    @property
    def definition(self) -> Path:
        return self.root / EXPERIMENT

    @property
    def verdicts(self) -> Path:
        return self.root / "verdicts.sqlite"

    @property
    def faults(self) -> Path:
        return self.root / "faults.jsonl"

    @property
    def page(self) -> Path:
        return self.root / "compare.md"

    @property
    def html_page(self) -> Path:
        return self.root / "compare.html"

    @property
    def rows(self) -> Path:
        return self.root / "cells.csv"

    def cell(self, cell: Cell) -> RunFolder:
        return RunFolder(self.root / "cells" / cell.arm / f"seed-{cell.seed}")

    def finished(self, cell: Cell) -> bool:
        return self._mark(cell).is_file()

    def finish(self, cell: Cell, facts: Mapping[str, Any]) -> None:
        """Durable: a finished cell is not run again. `facts` are of this process, such as when it began and ended."""
        replace_file(self._mark(cell), text=json.dumps(dict(facts)) + "\n", durable=True)

    def facts(self, cell: Cell) -> dict[str, Any]:
        """What was said when it was finished."""
        try:
            found: dict[str, Any] = json.loads(self._mark(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._mark(cell)}: cannot be read: {error}") from error
        return found

    def begin_cell(self, cell: Cell, *, config: str, environment: Mapping[str, object]) -> RunFolder:
        """Its folder, made if this is its first time."""
        folder = self.cell(cell)
        if not folder.config.is_file():
            folder.write_environment(environment)
            folder.write_config(config)
        return folder

    def write(self, path: Path, text: str) -> None:
        replace_file(path, text=text, durable=True)

    def _mark(self, cell: Cell) -> Path:
        return self.cell(cell).root / "finished.json"

    def _check_definition(self, experiment: Experiment) -> None:
        """Raises ConfigError where the runs that are there would have to be others."""
        key = first_difference(_bare(_read(self.definition)), _bare(experiment.definition()))
        if key is not None:
            raise ConfigError(
                f"{experiment.path}: {key}: is not what the experiment in {self.root} was begun with; change it back, "
                "or name another run_dir"
            )


def _newest(experiment: Experiment, *, runs: Path) -> Path:
    wanted = _bare(experiment.definition())
    for found in sorted(runs.absolute().glob("*/experiment.yaml"), reverse=True):
        if first_difference(_bare(_read(found)), wanted) is None:
            return found.parent
    raise ConfigError(f"{experiment.path}: no experiment with this definition under {runs} to resume")


def _bare(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the runs do not depend on; read as it would be from the file."""
    kept = {key: value for key, value in definition.items() if key not in ANALYSIS}
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(kept))
    return plain


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path}: does not hold an experiment's definition")
    return found


def _definition_text(experiment: Experiment) -> str:
    return yaml.safe_dump(experiment.definition(), sort_keys=False, allow_unicode=True)
