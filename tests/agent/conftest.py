"""A tiny checkpoint, made once for all tests that want one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_checkpoint import make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoints") / "tiny")
