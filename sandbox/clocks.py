"""Reads a GPU's clocks, temperature, power and throttle reasons, so that a figure can state them.

Through NVML's Python package where it is installed, else through nvidia-smi, which takes some fifty milliseconds and is
therefore asked at most every ten seconds. Where neither answers, there are no such conditions. Opens no CUDA context.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.environment import output_of

_QUERY_EVERY_SECONDS = 10.0
_FIELDS: Mapping[str, str] = {
    "sm_clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "throttle_reasons": "clocks_throttle_reasons.active",
}


class Clocks:
    """One GPU's readings. `gpu` is its index or its UUID, as CUDA_VISIBLE_DEVICES has it."""

    def __init__(self, gpu: str) -> None:
        self._gpu = gpu
        self._nvml: Any = None
        self._handle: Any = None
        self._opened = False
        self._last: dict[str, str] = {}
        self._asked_at: float | None = None

    def read(self) -> dict[str, str]:
        """The readings by name, as text; {} where there are none. Those of nvidia-smi may be ten seconds old, and say
        how old they are."""
        return self.read_quickly() or self._through_smi()

    def read_quickly(self) -> dict[str, str]:
        """NVML's readings alone: before work begins, those of nvidia-smi would be an idle GPU's for ten seconds."""
        if not self._opened:
            self._opened = True
            self._open_nvml()
        return {} if self._handle is None else self._through_nvml()

    def _open_nvml(self) -> None:
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            return
        try:
            nvml.nvmlInit()
            by_index = self._gpu.isdigit()
            find = nvml.nvmlDeviceGetHandleByIndex if by_index else nvml.nvmlDeviceGetHandleByUUID
            self._handle = find(int(self._gpu) if by_index else self._gpu)
        except nvml.NVMLError:
            return
        self._nvml = nvml

    def _through_nvml(self) -> dict[str, str]:
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], Any]] = {
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_w": lambda: f"{nvml.nvmlDeviceGetPowerUsage(handle) / 1e3:.0f}",
            "throttle_reasons": lambda: f"{nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle):#x}",
        }
        found = {}
        for name, ask in asked.items():
            try:
                found[name] = str(ask())
            except nvml.NVMLError:
                continue  # not every GPU tells everything
        return found

    def _through_smi(self) -> dict[str, str]:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > _QUERY_EVERY_SECONDS:
            query = f"--query-gpu={','.join(_FIELDS.values())}"
            answer = output_of(["nvidia-smi", "-i", self._gpu, query, "--format=csv,noheader,nounits"])
            self._last, self._asked_at = parse_clocks(answer or ""), now
        if not self._last:
            return {}
        return {**self._last, "clocks_read_seconds_ago": f"{now - self._asked_at:.0f}"}


def parse_clocks(answer: str) -> dict[str, str]:
    """Reads nvidia-smi's one line; what it does not support is left out."""
    cells = [cell.strip() for cell in answer.strip().split(",")]
    if len(cells) != len(_FIELDS):
        return {}
    return {name: cell for name, cell in zip(_FIELDS, cells, strict=True) if cell and not cell.startswith("[")}
