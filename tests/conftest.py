"""Skips tests marked `gpu` or `browser` on machines without one. Asks no framework, so that collecting stays fast.

Property tests try the same examples each time; `--hypothesis-profile=deep` looks for new ones, for as long as it takes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.browser import chromium

if importlib.util.find_spec("hypothesis") is not None:  # a GPU machine may have none
    import hypothesis

    _ANY = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.register_profile("deep", max_examples=20_000, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {
        "gpu": None if any(Path("/dev").glob("nvidia[0-9]*")) else "needs an NVIDIA GPU",
        "browser": None if chromium() is not None else "needs chromium and chromedriver",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason is not None and marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
