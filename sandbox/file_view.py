"""Names the files that a sandboxed child needs: system, interpreter, packages, this package, and its scratch folder.

Nothing else is left to it: no home, no temporary folder but its own, no run folder, no process table. Decides only;
Landlock and own mounts enforce it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import cache
from glob import glob
from pathlib import Path

from sandbox.landlock import FileView

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_PACKAGES = ("torch", "triton", "numpy")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")
# What libraries ask to size their thread pools and caches.
_HARDWARE = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# `/proc/self/task` stands apart: CUDA names its threads there.
_CUDA_FILES = ("/proc", "/sys")
_CUDA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps", "/dev/shm")


def for_cpu(scratch: Path) -> FileView:
    """What a child needs that traces or interprets."""
    return FileView(
        executable=libraries(), readable=(*_SYSTEM_FILES, *_HARDWARE), devices=_DEVICES, scratch=(str(scratch),)
    )


def for_gpu(scratch: Path, *, own_memory: bool) -> FileView:
    """What a child needs that also opens a GPU and builds Triton's launcher.

    With `own_memory` its /dev/shm is nobody else's, and it may make files there.
    """
    return FileView(
        executable=libraries(),
        readable=(*_SYSTEM_FILES, *_CUDA_FILES),
        devices=(*_DEVICES, *_CUDA_DEVICES, *sorted(glob("/dev/nvidia[0-9]*")), "/proc/self/task"),
        scratch=(str(scratch), "/dev/shm") if own_memory else (str(scratch),),
    )


@cache
def libraries() -> tuple[str, ...]:
    """Existing folders with the system's programs, the interpreter, installed packages and this package, none inside
    another."""
    own = str(Path(__file__).parent)
    installed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    found = (*_SYSTEM, sys.base_prefix, sys.prefix, *installed, *_package_folders(), own)
    real = {os.path.realpath(path) for path in found if os.path.isdir(path)} - {"/"}
    return tuple(sorted(path for path in real if not any(_inside(path, other) for other in real)))


def _package_folders() -> Iterable[str]:
    """Where the packages are that may be installed from a working folder."""
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield os.path.dirname(spec.origin)


def _inside(path: str, other: str) -> bool:
    return path != other and path.startswith(other.rstrip("/") + "/")
