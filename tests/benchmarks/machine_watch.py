"""Watches how busy GPUs and cores are while something else runs, and gives shares of any stretch of that time.

A GPU's share is NVML's utilization: of its last sampling period (a sixth of a second to one second), the part in which
some kernel ran. It takes NVML's Python package. Knows nothing of what runs. Times are `time.monotonic`'s.
"""

from __future__ import annotations

import importlib
import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    at: float
    gpu: str
    busy_percent: float
    memory_mib: float
    power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSample:
    """Jiffies of the cores that this process may use, since the machine was started."""

    at: float
    busy: int
    total: int


class MachineWatch:
    """From `start` to `stop`. `gpus` are indices or UUIDs, as CUDA_VISIBLE_DEVICES has them."""

    def __init__(self, gpus: list[str]) -> None:
        self._gpus = gpus
        self._gpu_samples: list[GpuSample] = []
        self._core_samples: list[CoreSample] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Raises ImportError where there are GPUs and no NVML package: a share that nobody measured must not be 0."""
        nvml: Any = importlib.import_module("pynvml") if self._gpus else None
        threading.Thread(target=self._watch, args=(nvml,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def shares(self, begin: float, end: float) -> dict[str, Any]:
        """What was busy between the two times; a GPU or the cores are left out where there are no samples."""
        found: dict[str, Any] = {}
        for gpu in self._gpus:
            samples = [s for s in list(self._gpu_samples) if s.gpu == gpu and begin <= s.at <= end]
            if samples:
                found[f"gpu {gpu}"] = _gpu_shares(samples)
        cores = [s for s in list(self._core_samples) if begin <= s.at <= end]
        if len(cores) > 1 and cores[-1].total > cores[0].total:
            share = (cores[-1].busy - cores[0].busy) / (cores[-1].total - cores[0].total)
            found["cores"] = {"num": len(os.sched_getaffinity(0)), "busy_share": share}
        return found

    def _watch(self, nvml: Any) -> None:
        handles = {}
        if nvml is not None:
            nvml.nvmlInit()
            handles = {gpu: _handle_of(nvml, gpu) for gpu in self._gpus}
        while not self._stopping.wait(EVERY_SECONDS):
            self._core_samples.append(read_cores(Path("/proc/stat").read_text(), at=time.monotonic()))
            self._gpu_samples += [_read_gpu(nvml, handle, gpu=gpu) for gpu, handle in handles.items()]


def _handle_of(nvml: Any, gpu: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else nvml.nvmlDeviceGetHandleByUUID(gpu)


def _read_gpu(nvml: Any, handle: Any, *, gpu: str) -> GpuSample:
    return GpuSample(
        at=time.monotonic(),
        gpu=gpu,
        busy_percent=nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        memory_mib=nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20,
        power_w=nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    )


def read_cores(stat: str, *, at: float) -> CoreSample:
    """From the text of /proc/stat (proc(5)): idle is what idles and what waits for a disk."""
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    busy = total = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in mine:
            jiffies = [int(field) for field in fields[:8]]
            total += sum(jiffies)
            busy += sum(jiffies) - jiffies[3] - jiffies[4]
    return CoreSample(at=at, busy=busy, total=total)


def _gpu_shares(samples: list[GpuSample]) -> dict[str, Any]:
    return {
        "samples": len(samples),
        "busy_share": statistics.fmean(s.busy_percent for s in samples) / 100,
        "share_of_samples_at_zero": sum(s.busy_percent == 0 for s in samples) / len(samples),
        "most_memory_mib": max(s.memory_mib for s in samples),
        "mean_power_w": statistics.fmean(s.power_w for s in samples),
    }
