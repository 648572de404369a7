"""Records the machine and the versions that a run's figures depend on.

Imports none of the packages it names, and knows nothing of runs: the caller stores the record. What cannot be found out
is None.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

Value = str | bool | int | None

PACKAGES = ("kernelloop", "torch", "triton", "numpy", "ray", "vllm", "cuda-bindings")
QUERY_SECONDS = 10.0  # nvidia-smi on a node with a lost GPU can hang for minutes


def record(*, isolation: Mapping[str, bool] | None = None) -> dict[str, Value]:
    """Flat, plain data. `isolation` says which layers are in force; each becomes a key `isolation.<layer>`."""
    found: dict[str, Value] = {"python": platform.python_version(), "platform": platform.platform()}
    found |= {name: version(name) for name in PACKAGES}
    found |= gpu()
    found |= {"cores": num_cores(), "memory_bytes": memory_bytes()}
    found |= source_tree(Path(__file__).resolve().parent.parent)
    found |= {f"isolation.{layer}": on for layer, on in (isolation or {}).items()}
    return found


@cache  # what is installed is looked up on the disk, and judging asks for it with each verdict
def version(package: str) -> str | None:
    """The installed version from its metadata, without importing it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def gpu() -> dict[str, Value]:
    """What nvidia-smi says: name and memory of the first GPU, how many there are, the driver. Needs no CUDA context."""
    absent: dict[str, Value] = {"gpu": None, "num_gpus": 0, "gpu_memory_mib": None, "driver": None}
    answer = output_of(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"])
    return absent if answer is None else absent | parse_gpu(answer)


def gpu_usable() -> bool:
    """Whether there is a GPU that is not hidden from this process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and gpu()["gpu"] is not None


def parse_gpu(answer: str) -> dict[str, Value]:
    """Reads the comma separated lines of nvidia-smi, one a GPU; {} where there is none."""
    rows = [[field.strip() for field in line.split(",")] for line in answer.splitlines() if line.count(",") == 2]
    if not rows:
        return {}
    name, memory_mib, driver = rows[0]
    memory = int(memory_mib) if memory_mib.isdigit() else None
    return {"gpu": name, "num_gpus": len(rows), "gpu_memory_mib": memory, "driver": driver}


def num_cores() -> int:
    """Cores this process may use: its affinity, and the quota of its control group where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fields = (first_line(Path("/sys/fs/cgroup/cpu.max")) or "max").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit():
        allowed = min(allowed, max(1, int(fields[0]) // int(fields[1])))
    return allowed


def memory_bytes() -> int | None:
    """Memory of the machine, or of the control group where that is less."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    limit = first_line(Path("/sys/fs/cgroup/memory.max")) or "max"
    return min(total, int(limit)) if limit.isdigit() else total


def source_tree(root: Path) -> dict[str, Value]:
    """The git commit of `root` and whether files differ from it; None for an installed package without a checkout."""
    unknown: dict[str, Value] = {"git_commit": None, "git_modified": None}
    if not (root / ".git").exists():  # git would look further up and name the commit of some other project
        return unknown
    commit = output_of(["git", "-C", str(root), "rev-parse", "HEAD"])
    if commit is None:
        return unknown
    changes = output_of(["git", "-C", str(root), "status", "--porcelain"])
    return {"git_commit": commit.strip(), "git_modified": None if changes is None else bool(changes.strip())}


def output_of(command: Sequence[str]) -> str | None:
    """Standard output of a short command; None where it is missing, fails or does not answer in time."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def first_line(path: Path) -> str | None:
    try:
        with path.open() as file:
            return file.readline().strip()
    except OSError:
        return None
