"""Gives up what makes a process more than an ordinary user's: root's own id, and every capability.

Knows nothing of files, namespaces or system calls that are denied by other means.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from sandbox import syscalls

_VERSION_3 = 0x20080522  # linux/capability.h
_AMBIENT_CLEAR_ALL = 4
_SYS_ADMIN = 21
# User ids that systemd hands out for the length of a service: no file belongs to one for long.
_FIRST_ID, _NUM_IDS = 61184, 4096


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def held() -> int:
    """The capabilities in effect, as a bit set."""
    return _status("CapEff")


def _status(field: str) -> int:
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")), 16)


def may_administer() -> bool:
    """Whether this process may mount and make namespaces by itself."""
    return bool(held() & 1 << _SYS_ADMIN)


def drop() -> None:
    """Gives up every capability, those that executing a file would bring included. Raises OSError."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    try:
        for capability in range(last + 1):
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    except OSError as error:
        if error.errno != errno.EPERM or held():  # who has none may not give up more, and no-new-privs keeps it so
            raise
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    nothing = (ctypes.c_uint32 * 6)()
    header = _Header(_VERSION_3, 0)
    syscalls.checked(syscalls.libc().capset(ctypes.byref(header), nothing), "capset")


def ordinary_id(pid: int) -> int | None:
    """The user id for the children of root's process `pid`; None where this process is an ordinary user's already."""
    return None if os.geteuid() != 0 else _FIRST_ID + pid % _NUM_IDS


def become(user: int) -> None:
    """Turns root's process into an ordinary user's, for good. The group has the same number. Raises OSError."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # Or the process could not use its own files below /proc.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
