"""What tests of this folder share: a tiny checkpoint, made once; a scripted run; and the same secrets in every run for
the judges of a test file, so that a test that fails does so again.

A confirmation still draws another secret than the judge before it. Judges in processes of Ray draw their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.scripted_run import Bench
from tests.judge_settings import SECRET
from tests.tiny_checkpoint import make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def same_secrets() -> Iterator[None]:
    drawn = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.judge.new_secret", lambda seed: f"{SECRET}-{seed}-{next(drawn)}")
        yield


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "run").mkdir()
    return Bench(tmp_path / "run")
