"""Puts a child process behind walls before it runs anything that a model wrote.

Layers of this version: own session and process group, rlimits, no-new-privs, scrubbed environment, closed descriptors,
and user, network, IPC and PID namespaces where the kernel allows them. NOT covered yet: Landlock, seccomp, a read-only
view of the file system. A child can therefore still read files that its user may read, and open path-named unix
sockets. Knows nothing of torch or plans.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from functools import cache

from sandbox.types import Limits

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 38, 36

# Layers by name, and the namespaces behind them.
NAMESPACES: Mapping[str, int] = {
    "user_namespace": _CLONE_NEWUSER,
    "network_namespace": _CLONE_NEWNET,
    "ipc_namespace": _CLONE_NEWIPC,
    "pid_namespace": _CLONE_NEWPID,
}
ALWAYS = ("process_group", "rlimits", "no_new_privs", "scrubbed_environment", "closed_descriptors")
LAYERS = (*ALWAYS, *NAMESPACES)


class IsolationError(RuntimeError):
    """A layer that was asked for is not to be had on this machine."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def become_subreaper() -> None:
    """Orphaned grandchildren become children of this process, so that none outlives its candidate."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """This process is killed when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def unshare(names: tuple[str, ...]) -> None:
    """Moves this process (for PIDs: its next child) into new namespaces. Raises OSError where the kernel refuses."""
    flags = 0
    for name in names:
        flags |= NAMESPACES[name]
    if not flags:
        return
    uid, gid = os.getuid(), os.getgid()
    if _libc().unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), f"unshare {', '.join(names)}")
    if flags & _CLONE_NEWUSER:
        _map_ids(uid=uid, gid=gid)


def _map_ids(*, uid: int, gid: int) -> None:
    """Maps the caller to itself, without which files that it owns would be out of reach."""
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{uid} {uid} 1"),
        ("/proc/self/gid_map", f"{gid} {gid} 1"),
    ):
        with open(path, "w") as file:
            file.write(text)


def _works(names: tuple[str, ...]) -> bool:
    """Whether a throw-away child can enter these namespaces."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            unshare(names)
            code = 0
        except OSError:
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@cache
def namespaces() -> tuple[str, ...]:
    """The namespaces that children of this process can have: all together, or the most that work one by one."""
    everything = tuple(NAMESPACES)
    if _works(everything):
        return everything
    found: tuple[str, ...] = ()
    for name in everything:
        if _works((*found, name)):
            found = (*found, name)
    return found


def probe() -> dict[str, bool]:
    """Which layers hold on this machine, by name; tried, not assumed."""
    have = namespaces() if sys.platform == "linux" else ()
    return {**dict.fromkeys(ALWAYS, sys.platform == "linux"), **{name: name in have for name in NAMESPACES}}


def layers_for(isolation: str) -> tuple[str, ...]:
    """The namespaces to use under "strict", "best_effort" or "off". Raises IsolationError where strict cannot be
    had."""
    if isolation == "off":
        return ()
    have = namespaces()
    if isolation == "strict" and (missing := [name for name in NAMESPACES if name not in have]):
        raise IsolationError(f"judge.isolation is strict, but this machine refuses: {', '.join(missing)}")
    return have


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


def lock_down(limits: Limits) -> None:
    """Applied in the child, last before it runs what it was forked for: rlimits and no-new-privs.

    The memory limit counts from what the warm parent already maps, since address space that is only reserved costs
    nothing.
    """
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    memory = mapped + limits.memory_bytes
    for name, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_NPROC, limits.num_processes),
    ):
        _, hard = resource.getrlimit(name)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(name, (value, value))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


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
