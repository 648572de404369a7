"""A filter on system calls: no sockets, no look into other processes, no mounts, no new namespaces, no kernel loaders.

A denied call fails with EPERM, so that a library that can do without it goes on; only calls in the form of another
architecture kill the process, since their numbers mean other things. Source: linux/seccomp.h, linux/bpf_common.h.
Knows x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import platform
from collections.abc import Mapping

from sandbox import syscalls

_SET_MODE_FILTER, _TSYNC = 1, 1
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _JEQ, _JGE, _JSET, _RET, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
# In struct seccomp_data; both machines are little-endian.
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24
_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _TYPE_MASK = 1, 1, 5, 0xF
_CONNECT = {"x86_64": 42, "aarch64": 203}
_X32 = 0x40000000  # numbers from here on are x86_64's 32-bit pointer form
# CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}
_NEW_NAMESPACES = 0x80 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

# Numbers from 424 (linux/asm-generic/unistd.h) on are the same everywhere.
_SHARED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467,
}  # fmt: skip
_X86_64 = _SHARED | {
    "socket": 41, "ptrace": 101, "syslog": 103, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159,
    "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176,
    "quotactl": 179, "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = _SHARED | {
    "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "vhangup": 58, "quotactl": 60, "acct": 89,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116,
    "ptrace": 117, "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "adjtimex": 171,
    "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225,
    "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip


class _Machine:
    """What a filter needs to know of an architecture: AUDIT_ARCH from linux/audit.h and system call numbers."""

    def __init__(self, *, audit: int, denied: Mapping[str, int], clone: int, clone3: int, seccomp: int) -> None:
        self.audit, self.denied = audit, denied
        self.clone, self.clone3, self.seccomp = clone, clone3, seccomp


MACHINES: Mapping[str, _Machine] = {
    "x86_64": _Machine(audit=0xC000003E, denied=_X86_64, clone=56, clone3=435, seccomp=317),
    "aarch64": _Machine(audit=0xC00000B7, denied=_AARCH64, clone=220, clone3=435, seccomp=277),
}


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def program(machine: str, *, listen: bool = False) -> list[tuple[int, int, int, int]]:
    """The filter as (code, jump if true, jump if false, operand). Raises KeyError for an architecture not known.

    With `listen` unix sockets with connections may be made, as CUDA does to listen on one, but connect to nothing.
    """
    known = MACHINES[machine]
    denied = sorted(known.denied.values())
    sockets = []
    if listen:
        denied = sorted({*denied, _CONNECT[machine]} - {known.denied["socket"]})
        sockets = [
            (_JEQ, 0, 7, known.denied["socket"]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
            (_JEQ, 0, 4, _AF_UNIX),
            (_LOAD, 0, 0, _SECOND_ARGUMENT_AT),
            (_AND, 0, 0, _TYPE_MASK),
            (_JEQ, 2, 0, _SOCK_STREAM),
            (_JEQ, 1, 0, _SOCK_SEQPACKET),
            (_RET, 0, 0, _ERRNO | errno.EPERM),
        ]
    # `left` is how many instructions follow up to "deny", which is the last but one; "allow" is the last.
    head = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JEQ, 1, 0, known.audit),
        (_RET, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        # clone3 keeps its flags where a filter cannot look; the C library then takes clone.
        (_JEQ, 0, 1, known.clone3),
        (_RET, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    tests = [(_JGE, _X32), *((_JEQ, number) for number in denied)] if machine == "x86_64" else [
        (_JEQ, number) for number in denied
    ]  # fmt: skip
    tail = [
        (_JEQ, 0, 3, known.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JSET, 0, 1, _NEW_NAMESPACES),
        (_RET, 0, 0, _ERRNO | errno.EPERM),
        (_RET, 0, 0, _ALLOW),
    ]
    if sockets:  # they take the place of the last "allow", which they end in as well
        tail = [(_JEQ, 0, 4, known.clone), *tail[1:], *sockets, (_RET, 0, 0, _ALLOW)]
    after = len(tests) - 1
    return head + [(code, after - i + 3, 0, operand) for i, (code, operand) in enumerate(tests)] + tail


def install(*, listen: bool = False) -> None:
    """Filters every thread of this process and what it starts, for good. Needs no-new-privs. Raises OSError."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no system call filter for {platform.machine()}")
    lines = [_Instruction(*line) for line in program(platform.machine(), listen=listen)]
    filled = (_Instruction * len(lines))(*lines)
    described = _Program(len(lines), filled)
    syscalls.syscall(machine.seccomp, _SET_MODE_FILTER, _TSYNC, ctypes.byref(described), what="seccomp")
