"""Skips tests marked `gpu` on machines without one, and those marked `vllm` where that is not to be had. Asks no
framework, so that collecting stays fast.

Property tests try the same examples each time; `--hypothesis-profile=deep` looks for new ones, for as long as it takes.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

if importlib.util.find_spec("hypothesis") is not None:  # a GPU machine may have none
    import hypothesis

    _ANY = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.register_profile("deep", max_examples=20_000, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None and "KERNELLOOP_VLLM_PYTHON" not in os.environ:
        skip = pytest.mark.skip(reason="needs vLLM here, or KERNELLOOP_VLLM_PYTHON: an interpreter that has it")
        for item in items:
            if "vllm" in item.keywords:
                item.add_marker(skip)
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
