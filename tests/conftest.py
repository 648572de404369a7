"""Skips tests marked `gpu`, `browser` or `vllm` on machines without one. Asks no framework, so that collecting stays
fast.

Property tests try the same examples each time; `--hypothesis-profile=deep` looks for new ones, for as long as it takes.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.warm_zygotes import WarmZygotes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads wait for each other where tests run side by side

if importlib.util.find_spec("hypothesis") is not None:  # a GPU machine may have none
    import hypothesis

    _ANY = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.register_profile("deep", max_examples=20_000, deadline=None, suppress_health_check=_ANY)
    hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    has_vllm = importlib.util.find_spec("vllm") is not None or "KERNELLOOP_VLLM_PYTHON" in os.environ
    missing = {
        "gpu": None if any(Path("/dev").glob("nvidia[0-9]*")) else "needs an NVIDIA GPU",
        "browser": None if chromium() is not None else "needs chromium and chromedriver",
        "vllm": None if has_vllm else "needs vLLM here, or KERNELLOOP_VLLM_PYTHON: an interpreter that has it",
    }
    for item in items:
        for marker, reason in missing.items():
            # By the marker itself: keywords hold the names of folders too, and a checkout may lie in one named vllm.
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def warm_zygotes() -> Iterator[None]:
    """Tracers and judges of all tests take turns with the same warm processes."""
    shared = WarmZygotes()
    with pytest.MonkeyPatch.context() as patch:
        for home in ("sandbox.tracer", "sandbox.judge"):
            patch.setattr(f"{home}.Zygote", shared)
        yield
    shared.close()
