"""Records the machine and the versions that a run's figures depend on.

Imports none of the packages it names, and knows nothing of runs: the caller stores the record. What cannot be found out
is None.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    found |= {"gpu_uuids": ", ".join(gpu.uuid for gpu in gpus()) or None}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as nvidia-smi lists it, in the order of the bus: CUDA's own is that of CUDA_DEVICE_ORDER=PCI_BUS_ID."""

    index: int
    uuid: str
    model: str
    memory_mib: int | None
    sliced: bool  # into MIG devices, which have UUIDs of their own


def gpus() -> tuple[Gpu, ...]:
    """Every GPU of the machine, hidden or not; () where nvidia-smi does not answer."""
    query = "--query-gpu=index,uuid,name,memory.total,mig.mode.current"
    return parse_gpus(output_of(["nvidia-smi", query, "--format=csv,noheader,nounits"]) or "")


def parse_gpus(answer: str) -> tuple[Gpu, ...]:
    """Reads nvidia-smi's lines; what is no line of a GPU is left out."""
    rows = [[field.strip() for field in line.split(",")] for line in answer.splitlines()]
    return tuple(
        Gpu(
            index=int(row[0]),
            uuid=row[1],
            model=row[2],
            memory_mib=int(row[3]) if row[3].isdigit() else None,
            sliced=row[4] == "Enabled",
        )
        for row in rows
        if len(row) == 5 and row[0].isdigit()
    )


def gpu_named(name: str, *, among: Sequence[Gpu]) -> Gpu | None:
    """The GPU that CUDA_VISIBLE_DEVICES means by an index or a UUID, which may be cut short; None where that is not to
    be told, as of a MIG slice."""
    if name.isdigit():
        return next((gpu for gpu in among if gpu.index == int(name)), None)
    found = [gpu for gpu in among if gpu.uuid.startswith(name)] if name.startswith("GPU-") else []
    return found[0] if len(found) == 1 else None


def visible_gpus(among: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves to this process. What it names and is not there hides what follows, as
    CUDA has it."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return tuple(among)
    found: list[Gpu] = []
    for name in names.split(","):
        if (gpu := gpu_named(name.strip(), among=among)) is None:
            break
        found.append(gpu)
    return tuple(found)


def gpu_uuid(raw: object) -> str:
    """What CUDA tells of its one device, as CUDA_VISIBLE_DEVICES writes it. A MIG slice goes by that variable's name:
    CUDA does not say which kind it is."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible if visible.startswith("MIG-") else f"GPU-{raw}"


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
