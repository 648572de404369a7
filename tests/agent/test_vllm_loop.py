"""The whole loop on real vLLM: an engine under Ray serves the stand-in, its answers are judged, winners confirmed.

An engine takes the better part of a minute to start. KERNELLOOP_VLLM_PYTHON names the interpreter that has vLLM where
this one has not; tests/vllm_environment.sh makes one for a CPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import cli
from agent.events import Sampled
from agent.ledger import Ledger
from tests.shared_engine import CPU, PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

ROOT = Path(cli.__file__).parents[1]
# Two that the stand-in gets right most of the time.
PROBLEMS = ("matmul_matmul_elu", "planes_instance_norm")


def test_the_stand_in_served_by_vllm_solves_problems(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    sampler = {
        "kind": "vllm", "model": str(ROOT / "standin" / "checkpoint"), "temperature": 0.8, "top_p": 0.97,
        "max_tokens": 960, "concurrency": 16,
    }  # fmt: skip
    engine = {
        "python": PYTHON, "environment": CPU, "num_engines": 1, "enforce_eager": True, "memory_share": 0.3,
        "start_seconds": 900,
    }  # fmt: skip
    arguments = [
        "run",
        str(ROOT / "configs" / "quickstart.yaml"),
        f"problems.path={ROOT / 'configs' / 'problems_standin'}",
        f"problems.only=[{', '.join(PROBLEMS)}]",
        f"sampler={json.dumps(sampler)}",
        f"engine={json.dumps(engine)}",
        f"run_dir={folder}",
        "judge.mode=interpret",
    ]
    assert cli.main(arguments) == 0
    assert {path.stem for path in (folder / "best").glob("*.py")} & set(PROBLEMS)
    with Ledger.open_read_only(folder / "ledger.sqlite") as ledger:
        samples = [entry.event for entry in ledger.events() if isinstance(entry.event, Sampled)]
    assert samples and all((event.sampler or "").startswith("vllm") for event in samples)
    assert all(event.completion_tokens > 0 and not event.tokens_estimated for event in samples)
