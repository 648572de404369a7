"""Builds the walls around one child: namespaces from the supervisor that forks it, the rest from within.

A supervisor calls `enter` and forks the child, which calls `lock_down` and can then never undo it. Which layers to use
is `isolation.py`'s to say.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

from sandbox import capabilities, control_group, file_view, landlock, namespaces, seccomp, syscalls
from sandbox.settings import Limits

_NUM_FILES, _NUM_CUDA_FILES = 256, 4096  # open at a time; a CUDA context alone opens dozens


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What stands around one child. `user` is the ordinary id to take in place of root's, or None to keep the own."""

    layers: tuple[str, ...]
    view: landlock.FileView
    user: int | None
    gpu: bool

    @property
    def own_mounts(self) -> bool:
        return "mount_namespace" in self.layers

    @property
    def own_processes(self) -> bool:
        """Whether /proc can show the child's own processes alone."""
        return self.own_mounts and "pid_namespace" in self.layers


def build(layers: tuple[str, ...], *, scratch: Path, gpu: bool = False) -> Walls:
    """The walls of `layers` around a child whose one writable folder is `scratch`."""
    own_memory = "mount_namespace" in layers
    view = file_view.for_gpu(scratch, own_memory=own_memory) if gpu else file_view.for_cpu(scratch)
    user = capabilities.ordinary_id(os.getpid()) if "unprivileged_uid" in layers else None
    return Walls(layers=layers, view=view, user=user, gpu=gpu)


def die_with_parent() -> None:
    """This process is killed when its parent dies."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(walls: Walls, *, scratch: Path, max_bytes: int) -> None:
    """Applied in the supervisor: namespaces for the child it forks next. Raises OSError.

    With own mounts `scratch` is empty from now on, and holds `max_bytes` at most; without, it is given to the child's
    user.
    """
    os.umask(0o022)
    if walls.user is not None and not walls.own_mounts:
        os.chown(scratch, walls.user, walls.user)
    if walls.user is not None and not capabilities.may_administer():
        capabilities.become(walls.user)  # namespaces are then had as an ordinary user has them
        die_with_parent()
    namespaces.unshare(walls.layers)
    if walls.own_mounts:
        if walls.user is not None and os.geteuid() == 0:
            namespaces.open_paths(walls.view.executable)
        namespaces.mount_scratch(scratch, max_bytes=max_bytes, user=walls.user)


def lock_down(walls: Walls, *, scratch: Path, limits: Limits) -> None:
    """Applied in the child, last before it runs what it was forked for. Raises OSError."""
    if walls.own_processes:
        namespaces.mount_processes()
    if walls.gpu and walls.own_mounts:
        namespaces.mount_private_memory()
    _limit(limits, gpu=walls.gpu)
    if "control_group" in walls.layers:
        control_group.die_first()
    if walls.user is not None and os.geteuid() == 0:
        capabilities.become(walls.user)
    os.chdir(scratch)
    die_with_parent()  # after a change of user, which forgets it
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if "capabilities" in walls.layers:
        capabilities.drop()
    if "landlock" in walls.layers:
        landlock.restrict(walls.view, truncate="landlock_truncate" in walls.layers)
    if "seccomp" in walls.layers:
        seccomp.install(listen=walls.gpu and walls.own_mounts and "network_namespace" in walls.layers)


def _limit(limits: Limits, *, gpu: bool) -> None:
    """The memory limit counts from what the warm parent already maps, since address space that is only reserved costs
    nothing. CUDA reserves more than any limit, so a process with a GPU has none."""
    values = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _NUM_CUDA_FILES if gpu else _NUM_FILES,
        resource.RLIMIT_NPROC: limits.num_processes,
    }
    if not gpu:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        values[resource.RLIMIT_AS] = mapped + limits.memory_bytes
    for name, value in values.items():
        _, hard = resource.getrlimit(name)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (bound, bound))
