"""An experiment over scripted models and judges, in a folder of its own: what tests of experiments start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from agent import compare_command
from agent.config import RunConfig
from agent.experiment import Ended, ExperimentRun
from agent.experiment_config import Cell, Experiment, load_experiment
from agent.experiment_folder import ExperimentFolder
from agent.experiment_results import Results, read_results
from agent.ledger import Ledger
from agent.ledger_rows import Entry
from agent.sampler import Sampler, SampleRequest
from sandbox.types import Problem, Status
from tests.agent.scripted_run import Answer, ScriptedPool, ScriptedSampler, own_program, program, verdict_on
from tests.agent.word_pool import PROBLEM

TOKENS = 10  # of each scripted answer
ARMS = {
    "drafts": {"strategy": {"name": "best_of_n", "in_flight": 2}, "sampler.model": "one"},
    "repair": {"strategy": {"name": "repair", "in_flight": 2}, "sampler.model": "other"},
}


@dataclass
class Lab:
    """An experiment in a folder; each `run` is like a new process, with samplers of its own by the model's name."""

    root: Path
    answer: Answer = own_program
    pool: ScriptedPool = field(default_factory=ScriptedPool)
    samplers: dict[str, ScriptedSampler] = field(default_factory=dict)
    num_pools: int = 0
    delay_seconds: float = 0.0

    def experiment(self, **changes: Any) -> Experiment:
        base = {
            "problems": str(self.root / "problems"),
            "sampler": {"kind": "http", "base_url": "http://localhost:1", "model": "m", "concurrency": 6},
            "ray": {"pool": "serial"},
            "judge": {"mode": "interpret"},
        }
        raw = {
            "base": base, "arms": ARMS, "seeds": [0, 1], "budget": {"samples": 4}, "resamples": 2000,
            "run_dir": str(self.root / "experiment"), **changes,
        }  # fmt: skip
        path = self.root / "trial.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return load_experiment(path)

    @property
    def problems(self) -> list[Problem]:
        return [Problem(id=f"p{n}", source=f"# {n}", origin="test") for n in range(3)]

    def run(
        self, experiment: Experiment | None = None, *, on_ready: Callable[[ExperimentRun], None] | None = None
    ) -> Ended:
        experiment = experiment or self.experiment()
        self.samplers, self.num_pools = {}, 0
        return compare_command.carry_out(
            experiment, problems=self.problems, folder=self.folder(experiment), as_json=True,
            open_pool=self._open_pool, open_engine=self._open_engine, on_ready=on_ready or (lambda run: None),
        )  # fmt: skip

    def folder(self, experiment: Experiment) -> ExperimentFolder:
        return ExperimentFolder.begin_or_resume(experiment, resume=False, runs=self.root, now=datetime(2026, 11, 29))

    def results(self, experiment: Experiment | None = None) -> Results:
        experiment = experiment or self.experiment()
        found = read_results(experiment, folder=self.folder(experiment), problems=self.problems)
        assert found is not None
        return found

    def entries(self, cell: Cell) -> list[Entry]:
        with Ledger.open_read_only(self.folder(self.experiment()).cell(cell).ledger) as ledger:
            return list(ledger.events())

    def requests(self) -> list[SampleRequest]:
        return [request for sampler in self.samplers.values() for request in sampler.requests]

    def _open_pool(self, config: RunConfig) -> ScriptedPool:
        self.num_pools += 1
        return self.pool

    def _open_engine(self, config: RunConfig) -> Sampler:
        model = config.sampler.model_dump()["model"]
        self.samplers[model] = ScriptedSampler(lambda request: self.answer(request), delay_seconds=self.delay_seconds)
        return self.samplers[model]


def new_lab(root: Path) -> Lab:
    (root / "problems").mkdir()
    (root / "problems/p0.py").write_text(PROBLEM, encoding="utf-8")
    return Lab(root)


def passing(lab: Lab) -> None:
    """p0 is solved at once, p1 by repairs alone, p2 never."""
    lab.answer = lambda r: program(f"made = '{r.problem.id} {r.proposal.operator} {r.seed}'")
    right = ("p0", "p1 repair")
    lab.pool = ScriptedPool(
        lambda c: verdict_on(c, status=Status.PASSED if any(w in c.source for w in right) else Status.WRONG_VALUES)
    )
