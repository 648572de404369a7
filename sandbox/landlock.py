"""Landlock: which files this process and its descendants may use, for good, and nothing else of the file system.

Also takes from them TCP, abstract unix sockets and signals to outsiders where the kernel's Landlock can. Not covered,
because Landlock has no right for it: metadata (`stat`, `chmod`, `utime` of one's own files), path-named unix sockets,
UDP. Source: Documentation/userspace-api/landlock.rst and linux/landlock.h. Knows nothing of what the files are.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox import syscalls

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_MAKE_FIFO, _MAKE_SYM = 1 << 10, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

# Rights that an ABI version knows: all of version 1, and what later ones added.
_FIRST_RIGHTS = (1 << 13) - 1
_LATER_RIGHTS = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_TCP_ABI, _TCP = 4, 0b11  # bind, connect
_SCOPE_ABI, _SCOPES = 6, 0b11  # abstract unix sockets, signals
TRUNCATE_ABI = 3  # before it, whoever may write a file by its mode may truncate it

# Device and character files are not made, nor sockets; nothing written is executed.
_SCRATCH = (
    _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM
    | _REFER | _TRUNCATE
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """All paths that a process may use; those that do not exist count for nothing.

    `executable` may be read and executed, `readable` read, `devices` read, written and controlled, `scratch` changed at
    will but not executed.
    """

    executable: tuple[str, ...]
    readable: tuple[str, ...]
    devices: tuple[str, ...]
    scratch: tuple[str, ...]


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what a packed structure needs from Python 3.14 on; ignored before
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The version of the kernel's Landlock; 0 where it has none or does not use it."""
    try:
        return syscalls.syscall(_CREATE_RULESET, None, 0, _VERSION, what="landlock")
    except OSError:
        return 0


def rights(version: int) -> int:
    """Every file right that this version of the ABI knows."""
    known = _FIRST_RIGHTS
    for since, more in _LATER_RIGHTS.items():
        known |= more if version >= since else 0
    return known


def restrict(view: FileView, *, truncate: bool = True) -> None:
    """Takes everything but `view` from the calling thread and what it starts. Needs no-new-privs. Raises OSError.

    `truncate` False leaves truncation alone, as kernels before 6.2 do.
    """
    version = abi()
    known = rights(version) if truncate else rights(version) & ~_TRUNCATE
    ruleset = _Ruleset(known, _TCP if version >= _TCP_ABI else 0, _SCOPES if version >= _SCOPE_ABI else 0)
    size = 24 if version >= _SCOPE_ABI else 16 if version >= _TCP_ABI else 8
    descriptor = syscalls.syscall(_CREATE_RULESET, ctypes.byref(ruleset), size, 0, what="landlock_create_ruleset")
    try:
        read = _READ_FILE | _READ_DIR
        _allow(descriptor, view.executable, read | _EXECUTE)
        _allow(descriptor, view.readable, read)
        _allow(descriptor, view.devices, (read | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV) & known)
        _allow(descriptor, view.scratch, _SCRATCH & known)
        syscalls.syscall(_RESTRICT_SELF, descriptor, 0, what="landlock_restrict_self")
    finally:
        os.close(descriptor)


def _allow(ruleset: int, paths: Iterable[str], allowed: int) -> None:
    for path in paths:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            folder = stat.S_ISDIR(os.fstat(parent).st_mode)
            rule = _PathBeneath(allowed if folder else allowed & _FILE_RIGHTS, parent)
            syscalls.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0, what=f"landlock rule for {path}")
        finally:
            os.close(parent)
