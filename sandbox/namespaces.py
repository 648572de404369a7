"""Namespaces: no network, no outsider's processes or shared memory, and own mounts over the folders that matter.

With own mounts a child's scratch folder is a bounded file system in memory, which goes when its processes do. An
ordinary user gets namespaces by way of a user namespace, which is a means and no wall of its own. Knows nothing of
what runs inside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from sandbox import capabilities, syscalls

_NEW_USER = 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MAX_ENTRIES = 10_000  # files and folders in a scratch folder
SHARED_BYTES = 1 << 30  # what a /dev/shm of its own holds

NAMESPACES: Mapping[str, int] = {
    "network_namespace": 0x40000000,
    "ipc_namespace": 0x08000000,
    "pid_namespace": 0x20000000,
    "mount_namespace": 0x00020000,
}


def unshare(layers: Iterable[str]) -> None:
    """Moves this process (for PIDs: its next child) into those of `layers` that are namespaces. Raises OSError."""
    names = [name for name in NAMESPACES if name in layers]
    flags = sum(NAMESPACES[name] for name in names)
    if not flags:
        return
    alone = not capabilities.may_administer()
    uid, gid = os.geteuid(), os.getegid()
    number = flags | _NEW_USER if alone else flags
    syscalls.checked(syscalls.libc().unshare(number), f"unshare {', '.join(names)}")
    if alone:
        _map_ids(uid=uid, gid=gid)
    if "mount_namespace" in names:
        syscalls.mount(None, "/", flags=_MS_REC | _MS_PRIVATE)


def _map_ids(*, uid: int, gid: int) -> None:
    """Maps the caller to itself, without which files that it owns would be out of reach."""
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{uid} {uid} 1"),
        ("/proc/self/gid_map", f"{gid} {gid} 1"),
    ):
        Path(path).write_text(text)


def mount_processes() -> None:
    """Shows below /proc the processes of this PID namespace alone. Called from inside it."""
    syscalls.mount("proc", "/proc", kind="proc", flags=_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def mount_scratch(scratch: Path, *, max_bytes: int, user: int | None) -> None:
    """Mounts an empty file system over the folder around `scratch`, with nothing in it but an empty `scratch`."""
    owner = os.geteuid() if user is None else user
    group = os.getegid() if user is None else user
    options = f"size={max_bytes},nr_inodes={MAX_ENTRIES},mode=0711,uid={owner},gid={group}"
    syscalls.mount("scratch", str(scratch.parent), kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, options=options)
    scratch.mkdir(mode=0o700)
    if user is not None and os.geteuid() != user:
        os.chown(scratch, owner, group)


def mount_private_memory() -> None:
    """Gives this process a /dev/shm of its own."""
    options = f"size={SHARED_BYTES},nr_inodes={MAX_ENTRIES},mode=1777"
    syscalls.mount("shm", "/dev/shm", kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options=options)


def open_paths(folders: Iterable[str]) -> None:
    """Makes `folders` reachable for every user by mounting an empty file system over the closed folders around them.

    What else those hold, often somebody's home, is then out of sight. Needs to be root in its own mounts.
    """
    inside: dict[str, list[str]] = {}
    for folder in folders:
        if (closed := closed_around(folder)) is not None:
            inside.setdefault(closed, []).append(folder)
    for closed, kept in inside.items():
        opened = {folder: os.open(folder, os.O_PATH | os.O_DIRECTORY) for folder in kept}
        syscalls.mount("closed", closed, kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, options="size=1m,mode=0755")
        for folder, descriptor in opened.items():
            os.makedirs(folder, exist_ok=True)
            syscalls.mount(f"/proc/self/fd/{descriptor}", folder, flags=_MS_BIND | _MS_REC)
            os.close(descriptor)


def closed_around(folder: str) -> str | None:
    """The first folder on the way to `folder` that not everybody may pass through."""
    for parent in reversed(Path(folder).resolve().parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return str(parent)
    return None
