"""The whole loop on real vLLM, as an engine under Ray and as a server: the stand-in's answers are judged, winners
confirmed.

An engine takes the better part of a minute to start. KERNELLOOP_VLLM_PYTHON names the interpreter that has vLLM where
this one has not; tests/vllm_environment.sh makes one for a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.events import Sampled
from agent.ledger import Ledger
from tests.served_model import served
from tests.shared_engine import CPU, PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

ROOT = Path(cli.__file__).parents[1]
# Two that the stand-in gets right most of the time.
PROBLEMS = ("matmul_matmul_elu", "planes_instance_norm")


MODEL = ROOT / "standin" / "checkpoint"
SAMPLING = {"temperature": 0.8, "top_p": 0.97, "max_tokens": 960, "concurrency": 16}


def test_the_stand_in_served_by_vllm_solves_problems(tmp_path: Path) -> None:
    engine = {
        "python": PYTHON, "environment": CPU, "num_engines": 1, "enforce_eager": True, "memory_share": 0.3,
        "start_seconds": 900,
    }  # fmt: skip
    assert_solves(tmp_path / "run", {"kind": "vllm", "model": str(MODEL)}, f"engine={json.dumps(engine)}")


def test_the_stand_in_behind_vllms_server_solves_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with served(MODEL, name="stand-in", max_model_len=2048, log=tmp_path / "serve.log") as base_url:
        sampler = {
            "kind": "http", "base_url": base_url, "model": "stand-in", "template": str(MODEL), "tokenizer": str(MODEL),
            "answer_token_ids": True,
        }  # fmt: skip
        assert_solves(tmp_path / "run", sampler)


def assert_solves(folder: Path, sampler: Mapping[str, Any], *overrides: str) -> None:
    """A run over that sampler solves one of the problems at least, and counts real tokens."""
    arguments = [
        "run",
        str(ROOT / "configs" / "quickstart.yaml"),
        f"problems.path={ROOT / 'configs' / 'problems_standin'}",
        f"problems.only=[{', '.join(PROBLEMS)}]",
        f"sampler={json.dumps({**sampler, **SAMPLING})}",
        f"run_dir={folder}",
        "judge.mode=interpret",
        *overrides,
    ]
    assert cli.main(arguments) == 0
    assert {path.stem for path in (folder / "best").glob("*.py")} & set(PROBLEMS)
    with Ledger.open_read_only(folder / "ledger.sqlite") as ledger:
        samples = [entry.event for entry in ledger.events() if isinstance(entry.event, Sampled)]
        texts = [ledger.transcript(event.problem_id, event.proposal) for event in samples]
    assert samples and all((event.sampler or "").startswith(sampler["kind"]) for event in samples)
    assert all(event.completion_tokens > 0 and not event.tokens_estimated for event in samples)
    assert all(text is not None and text.token_ids for text in texts)
