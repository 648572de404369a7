"""Gives the judges of each test file the same secrets in every run, so that a test that fails does so again.

A confirmation still draws another than the judge before it. Judges in processes of Ray draw their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.judge_settings import SECRET


@pytest.fixture(scope="module", autouse=True)
def same_secrets() -> Iterator[None]:
    drawn = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.judge.new_secret", lambda seed: f"{SECRET}-{seed}-{next(drawn)}")
        yield
