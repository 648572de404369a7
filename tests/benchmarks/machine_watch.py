"""Watches how busy GPUs and cores are while something else runs, and gives shares of any stretch of that time.

A GPU's share is NVML's utilization, through nvidia-smi: of its last sampling period, the part in which some kernel ran.
Knows nothing of what runs. Times are `time.monotonic`'s.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY_MS = 200
_QUERY = "index,utilization.gpu,memory.used,power.draw"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    at: float
    gpu: str
    busy_percent: float
    memory_mib: float
    power_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSample:
    """Jiffies of the cores that this process may use, since the machine was started."""

    at: float
    busy: int
    total: int


class MachineWatch:
    """From `start` to `stop`. `gpus` are indices as nvidia-smi has them."""

    def __init__(self, gpus: list[str]) -> None:
        self._gpus = gpus
        self._gpu_samples: list[GpuSample] = []
        self._core_samples: list[CoreSample] = []
        self._smi: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch_cores, daemon=True).start()
        if self._gpus and shutil.which("nvidia-smi") is not None:
            command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
            command += ["-i", ",".join(self._gpus), "-lms", str(EVERY_MS)]
            self._smi = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read_gpus, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        if self._smi is not None:
            self._smi.kill()
            self._smi.wait()

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

    def _read_gpus(self) -> None:
        assert self._smi is not None and self._smi.stdout is not None
        for line in self._smi.stdout:
            sample = read_gpu_line(line, at=time.monotonic())
            if sample is not None:
                self._gpu_samples.append(sample)

    def _watch_cores(self) -> None:
        while not self._stopping.wait(EVERY_MS / 1000):
            self._core_samples.append(read_cores(Path("/proc/stat").read_text(), at=time.monotonic()))


def read_gpu_line(line: str, *, at: float) -> GpuSample | None:
    """None for what is no sample: an error, or a line that was cut off."""
    parts = [part.strip() for part in line.split(",")]
    try:
        gpu, busy, memory, power = parts
        watts = None if "N/A" in power else float(power)
        return GpuSample(at=at, gpu=gpu, busy_percent=float(busy), memory_mib=float(memory), power_w=watts)
    except ValueError:
        return None


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
    powers = [s.power_w for s in samples if s.power_w is not None]
    return {
        "samples": len(samples),
        "busy_share": statistics.fmean(s.busy_percent for s in samples) / 100,
        "share_of_samples_at_zero": sum(s.busy_percent == 0 for s in samples) / len(samples),
        "most_memory_mib": max(s.memory_mib for s in samples),
        "mean_power_w": statistics.fmean(powers) if powers else None,
    }
