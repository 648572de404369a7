"""Says which layers of isolation this machine has, and which of them stand around the children of a run.

Always: own session and process group, rlimits, no-new-privs, scrubbed environment, closed descriptors. Where the
machine has them: Landlock, a system call filter, no capabilities, an ordinary user's id in place of root's, a control
group, namespaces. NOT covered: metadata of files by their names (`stat`), time and load as side channels, faults of the
kernel, and without a control group the memory of all processes of a child together (each has a limit of its own).
`walls.py` applies the layers, but for the control group, which a process enters before it forks children. Knows nothing
of torch or plans.
"""

from __future__ import annotations

import dataclasses
import logging
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from sandbox import control_group, landlock, syscalls, walls
from sandbox.control_group import ControlGroup
from sandbox.namespaces import NAMESPACES
from sandbox.scratch import remove_tree
from sandbox.settings import JudgeSettings, Limits
from sandbox.walls import Walls

_log = logging.getLogger(__name__)

# Layers by name. Every child has the first; the others are tried on this machine.
ALWAYS = ("process_group", "rlimits", "no_new_privs", "scrubbed_environment", "closed_descriptors")
OPTIONAL = (
    "landlock", "landlock_truncate", "seccomp", "capabilities", "unprivileged_uid", "control_group", *NAMESPACES,
)  # fmt: skip
LAYERS = (*ALWAYS, *OPTIONAL)

_TRIAL = Limits(
    wall_seconds=10, cpu_seconds=10, memory_bytes=1 << 30, output_bytes=0, file_bytes=1 << 20, num_processes=16
)
_FORK_SECONDS, _FORK_PAUSE_SECONDS = 5.0, 0.01
_CHARGED_BYTES = 4 << 20  # beyond what the kernel charges in advance


class IsolationError(RuntimeError):
    """A layer that was asked for is not to be had on this machine, or does not hold."""


def become_subreaper() -> None:
    """Orphaned grandchildren become children of this process, so that none outlives its candidate."""
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


@cache
def available() -> tuple[str, ...]:
    """Those of `OPTIONAL` that children of this process can have: all together, or the most that work one by one."""
    if sys.platform != "linux":
        return ()
    if _works(OPTIONAL):
        return OPTIONAL
    found: tuple[str, ...] = ()
    # Own mounts first: they may be what makes the interpreter reachable for an ordinary user.
    for name in sorted(OPTIONAL, key=lambda name: name not in NAMESPACES):
        if _works((*found, name)):
            found = (*found, name)
    return tuple(name for name in OPTIONAL if name in found)


def probe() -> dict[str, bool]:
    """Which layers hold on this machine, by name; tried, not assumed."""
    have = available()
    return {**dict.fromkeys(ALWAYS, sys.platform == "linux"), **{name: name in have for name in OPTIONAL}}


def layers_for(isolation: str) -> tuple[str, ...]:
    """Those of `OPTIONAL` to use under "strict", "best_effort" or "off". Raises IsolationError where strict cannot be
    had."""
    if isolation == "off":
        return ()
    have = available()
    if isolation == "strict" and (missing := [name for name in OPTIONAL if name not in have]):
        raise IsolationError(f"judge.isolation is strict, but this machine refuses: {', '.join(missing)}")
    return have


def standing(isolation: str) -> tuple[str, ...]:
    """All that stand around a child of this machine under that level. Raises IsolationError as `layers_for` does."""
    return (*ALWAYS, *layers_for(isolation))


def kept_folder(settings: JudgeSettings) -> Path | None:
    """Where compiled kernels and baselines may be kept from one process to the next: `cache_dir`, unless candidates
    could write there. Raises IsolationError."""
    if settings.cache_dir is None:
        return None
    if "landlock" not in layers_for(settings.isolation):
        _log.warning("nothing_kept: without Landlock candidates could write to %s", settings.cache_dir)
        return None
    return Path(settings.cache_dir)


def _works(layers: tuple[str, ...]) -> bool:
    """Whether a throw-away child can be put behind these layers, and each then does what it is for."""
    try:
        group = _trial_group() if "control_group" in layers else None
    except (OSError, LookupError):  # the latter where a kernel before 4.13 does not count what it ended
        return False
    root = Path(tempfile.mkdtemp(prefix="kernelloop-probe-"))
    try:
        root.chmod(0o711)
        scratch = root / "scratch"
        scratch.mkdir()
        built = walls.build(layers, scratch=scratch)

        def supervise() -> None:
            if group is not None:
                _enter_charged(group)
            walls.enter(built, scratch=scratch, max_bytes=1 << 20)
            if not _holds(lambda: _look_around(built, scratch)):
                raise IsolationError("a layer does not hold")

        return _holds(supervise)
    finally:
        if group is not None:
            group.remove()
        remove_tree(root, seconds=10.0)


def _trial_group() -> ControlGroup:
    """A group for one process and the one that it forks to look around; no other fits. Raises OSError or
    LookupError."""
    group = control_group.make()
    try:
        group.limit(dataclasses.replace(_TRIAL, num_processes=1), inherited_bytes=0, num_others=1)
        group.refused()
    except (OSError, LookupError):
        group.remove()
        raise
    return group


def _enter_charged(group: ControlGroup) -> None:
    """Moves this process into `group` and takes some memory. Raises OSError, or IsolationError where that does not
    count there."""
    control_group.enter(group.folders)
    before = group.used_bytes()
    with mmap.mmap(-1, _CHARGED_BYTES) as taken:
        taken.write(b"\1" * _CHARGED_BYTES)
        if group.used_bytes() - before < _CHARGED_BYTES // 2:
            raise IsolationError("memory is not charged to the control group")


def _fork() -> int:
    """`os.fork`, again where it is refused: filelock, which torch uses, has an audit hook against forking in the
    instant in which another thread takes a lock."""
    until = time.monotonic() + _FORK_SECONDS
    while True:
        try:
            return os.fork()
        except RuntimeError:
            if time.monotonic() > until:
                raise
            time.sleep(_FORK_PAUSE_SECONDS)


def _holds(deed: Callable[[], None]) -> bool:
    """Whether a throw-away child gets through `deed`."""
    pid = _fork()
    if pid == 0:
        code = 1
        try:
            deed()
            code = 0
        except (OSError, IsolationError):
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _look_around(built: Walls, scratch: Path) -> None:
    """Locks this process down and tries what it must not be able to do. Raises OSError or IsolationError."""
    needed = [path for path in built.view.executable if os.path.isdir(path)]
    walls.lock_down(built, scratch=scratch, limits=_TRIAL)
    (scratch / "file").write_bytes(b"written")
    forbidden: dict[str, Callable[[], object]] = {
        "landlock": lambda: os.listdir("/"),
        "seccomp": lambda: socket.socket(socket.AF_UNIX).close(),
        "capabilities": lambda: os.chroot("/"),
        "control_group": _fork_and_reap,
    }
    for name, deed in forbidden.items():
        if name in built.layers and not _refused(deed):
            raise IsolationError(f"{name} does not hold")
    if "unprivileged_uid" in built.layers and 0 in os.getresuid():
        raise IsolationError("root's id is still there")
    if "landlock_truncate" in built.layers and not (
        "landlock" in built.layers and landlock.abi() >= landlock.TRUNCATE_ABI
    ):
        raise IsolationError("this kernel's Landlock does not deny truncation")
    if lost := [path for path in needed if not os.access(path, os.R_OK | os.X_OK)]:
        raise IsolationError(f"{lost[0]} is out of reach")


def _refused(deed: Callable[[], object]) -> bool:
    try:
        deed()
    except (PermissionError, BlockingIOError):  # the latter where there are processes enough
        return True
    return False


def _fork_and_reap() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def scrubbed_environment(scratch: str) -> dict[str, str]:
    """All that a child's environment holds: no tokens, no addresses, no GPU."""
    return {
        "PATH": os.defpath,
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "TRITON_CACHE_DIR": os.path.join(scratch, "triton"),
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(scratch, "inductor"),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }


def kill_children() -> None:
    """Kills and reaps every process below this one; needs `become_subreaper` to catch those that fled their session."""
    for _ in range(1000):
        children = _children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue
    raise IsolationError("processes of a candidate keep appearing")


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
