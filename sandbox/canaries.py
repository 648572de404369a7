"""Tries, in a throw-away child, what no child may be able to do, so that a layer that is silently off is noticed.

Runs behind the walls when a warm process starts. Trusted code, but its answer is read like any other child's.
"""

from __future__ import annotations

import _thread
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox import syscalls, wire

# What is tried, and the layers of which each one alone must stop it.
CANARIES: Mapping[str, frozenset[str]] = {
    "reading a file outside its folder": frozenset({"landlock"}),
    "listing the folder of another child": frozenset({"landlock", "mount_namespace"}),
    "writing next to the installed packages": frozenset({"landlock"}),
    "opening a socket": frozenset({"seccomp"}),
    "signalling another process": frozenset({"pid_namespace"}),
    "looking into another process": frozenset({"seccomp"}),
    "using a capability": frozenset({"capabilities"}),
    "starting more threads than allowed": frozenset({"unprivileged_uid", "control_group"}),
}


def warm() -> None:
    """Nothing beyond the imports above."""


def run(body: Any, _blobs: Any, scratch: Path) -> bytes:
    """The names of those deeds that nothing stopped."""
    deeds: dict[str, Callable[[], object]] = {
        "reading a file outside its folder": lambda: Path("/etc/passwd").read_bytes(),
        "listing the folder of another child": lambda: os.listdir(scratch.parent / "zygote"),
        "writing next to the installed packages": _write_next_to_packages,
        "opening a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "signalling another process": lambda: os.kill(body["watcher"], 0),
        "looking into another process": _trace_me,
        "using a capability": lambda: os.chroot("/"),
        "starting more threads than allowed": lambda: _start_threads(body["num_processes"]),
    }
    return wire.pack([name for name, deed in deeds.items() if not _stopped(deed)])


def escaped(answer: Any) -> tuple[str, ...]:
    """The names in a child's answer. Raises ValueError on anything else."""
    if not isinstance(answer, list) or not all(name in CANARIES for name in answer):
        raise ValueError(f"not a list of canaries: {str(answer)[:200]}")
    return tuple(answer)


def _write_next_to_packages() -> None:
    path = Path(__file__).parent.parent / f".kernelloop-canary-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.unlink()


def _trace_me() -> None:
    syscalls.checked(syscalls.libc().ptrace(0, 0, 0, 0), "ptrace")  # PTRACE_TRACEME


def _start_threads(count: int) -> None:
    """Threads count as processes do. Raises OSError where this process may not have so many."""
    hold = threading.Lock()
    with hold:
        try:
            for _ in range(count):
                _thread.start_new_thread(hold.acquire, (True, 5.0))
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error


def _stopped(deed: Callable[[], object]) -> bool:
    try:
        deed()
    except OSError:
        return True
    return False
