"""What code behind the walls may try against its surroundings, as small programs, and the layers that stop each.

Each layer named for an attack stops it by itself. A program runs as a problem's module in a real child; it succeeded if
it raises nothing but the last line's word. Needs no GPU and nothing from outside this machine.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import control_group, file_view, isolation, namespaces, wire
from sandbox.settings import Limits
from sandbox.zygote import Zygote

LIMITS = Limits(
    wall_seconds=30, cpu_seconds=20, memory_bytes=4 << 30, output_bytes=1 << 20, file_bytes=1 << 20, num_processes=16
)
_SUCCESS = "nothing stopped it"
_IPC_CREAT, _IPC_RMID = 0o1000, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One thing to try, and the layers each of which is enough to stop it. `against`: the layer that it would undo,
    without which there is nothing to try. `memory_bytes`: its limit, if not the usual one."""

    name: str
    stopped_by: tuple[str, ...]
    program: str = field(repr=False)
    against: str | None = None
    memory_bytes: int | None = None

    def layers(self) -> tuple[str, ...]:
        """Those that stop it here: an ordinary user's children have no id to give up."""
        return tuple(name for name in self.stopped_by if name != "unprivileged_uid" or os.geteuid() == 0)


def _attack(
    name: str, stopped_by: str, *lines: str, against: str | None = None, memory_bytes: int | None = None
) -> Attack:
    return Attack(
        name=name, stopped_by=tuple(stopped_by.split()), program="\n".join(f"    {line}" for line in lines),
        against=against, memory_bytes=memory_bytes,
    )  # fmt: skip


ATTACKS = (
    _attack("read a file of the user's", "landlock", "open(W['open_file']).read()"),
    _attack("read a file that only the user may read", "landlock unprivileged_uid", "open(W['secret_file']).read()"),
    _attack("list the temporary folder", "landlock", "os.listdir(W['folder'])"),
    _attack("change a file of the user's", "landlock", "open(W['open_file'], 'a').close()"),
    _attack("create a file outside", "landlock", "open(W['folder'] + '/new', 'w').close()"),
    _attack("cut off a file of the user's", "landlock_truncate", "os.truncate(W['open_file'], 0)"),
    _attack("change the judge's own code", "landlock unprivileged_uid", "open(W['own_code'], 'r+').close()"),
    _attack("list the warm process's folder", "landlock mount_namespace", "os.listdir('../zygote')"),
    _attack(
        "run a program that it wrote", "landlock",
        "shutil.copy('/bin/true', 'program')",
        "os.chmod('program', 0o700)",
        "subprocess.run(['./program'], check=True)",
    ),
    _attack("see that a process exists", "mount_namespace", "os.stat('/proc/%d' % W['process'])"),
    _attack(
        "read a process's command line", "landlock mount_namespace", "open('/proc/%d/cmdline' % W['process']).read()",
    ),
    _attack("signal a process", "landlock pid_namespace unprivileged_uid", "os.kill(W['process'], 0)"),
    _attack(
        "connect by TCP", "landlock seccomp network_namespace",
        "socket.create_connection(('127.0.0.1', W['tcp']), timeout=5).close()",
    ),
    _attack(
        "send by UDP", "seccomp network_namespace",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    ),
    _attack("connect to a socket with a path", "seccomp", "socket.socket(socket.AF_UNIX).connect(W['unix'])"),
    _attack(
        "connect to a socket with an abstract name", "landlock seccomp network_namespace",
        "socket.socket(socket.AF_UNIX).connect('\\0' + W['abstract'])",
    ),
    _attack(
        "attach a process's shared memory", "ipc_namespace",
        "checked(libc.shmget(W['shared_memory'], 0, 0o600 if os.geteuid() == 0 else 0o006))",
    ),
    _attack(
        "read memory through the kernel", "seccomp",
        "here, there = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)",
        "to, of = ((ctypes.c_void_p * 2)(ctypes.addressof(b), 8) for b in (here, there))",
        "checked(libc.process_vm_readv(os.getpid(), to, 1, of, 1, 0))",
    ),
    _attack("trace a process", "seccomp", "checked(libc.ptrace(0, 0, 0, 0))"),
    _attack("make a user namespace", "seccomp", "checked(libc.unshare(0x10000000))"),
    _attack(
        "make a user namespace by cloning", "seccomp",
        "pid = checked(libc.syscall(W['clone'], 0x10000000 | 17, None, None, None, None))",
        "pid or os._exit(0)",
    ),
    _attack(
        "open an io_uring", "seccomp", "checked(libc.syscall(425, 1, ctypes.create_string_buffer(120)))",
    ),
    _attack("change the root folder", "capabilities unprivileged_uid", "os.chroot('/')"),
    _attack(
        "start more processes than allowed", "unprivileged_uid control_group",
        "children = []",
        "try:",
        "    for _ in range(W['num_processes'] + 4):",
        "        pid = os.fork()",
        "        pid or (time.sleep(20), os._exit(0))",
        "        children.append(pid)",
        "finally:",
        "    [os.kill(pid, 9) for pid in children]",
    ),
    _attack(
        "take more memory in processes together than one may have", "control_group",
        "children, (reader, writer) = [], os.pipe()",
        "def hold():",
        "    try:",
        "        held = b'x' * (64 << 20)",
        "        os.write(writer, b'.')",
        "        time.sleep(20)",
        "    finally:",
        "        os._exit(1)",
        "try:",
        "    while len(children) < 12:",
        "        pid = os.fork()",
        "        pid or hold()",
        "        children.append(pid)",
        "    num_holding = 0",
        "    while num_holding < len(children):",
        "        if any(os.waitpid(pid, os.WNOHANG)[0] for pid in children):",
        "            raise OSError('a process ended')",
        "        if select.select([reader], [], [], 0.05)[0]:",
        "            num_holding += len(os.read(reader, 64))",
        "finally:",
        "    [os.kill(pid, 9) for pid in children]",
        memory_bytes=256 << 20,
    ),
    _attack(
        "leave the control group", "landlock unprivileged_uid",
        "for folder in W['outside_group']: open(folder + '/cgroup.procs', 'w').write('0')",
        against="control_group",
    ),
    _attack(
        "fill the disk with files within the limit of each", "mount_namespace",
        "try:",
        "    for name in 'abcd': open(name, 'wb').write(bytes(W['file_bytes']))",
        "finally:",
        "    [os.unlink(name) for name in 'abcd' if os.path.exists(name)]",
    ),
    _attack(
        "use up the file system's entries", "mount_namespace",
        "try:",
        "    for i in range(W['max_entries'] + 10): open(str(i), 'w').close()",
        "finally:",
        "    [os.unlink(str(n)) for n in range(W['max_entries'] + 10) if os.path.exists(str(n))]",
    ),
)  # fmt: skip

_PROGRAM = """
import ctypes, os, select, shutil, socket, subprocess, time
W = {world!r}
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def attack():
{attack}
attack()
raise RuntimeError({success!r})
"""


class Surroundings:
    """What there is to attack around a sandbox: files, a process, sockets, shared memory; gone at `close`."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="attacked-"))
        self._stack.callback(shutil.rmtree, folder)
        folder.chmod(0o777)  # so that modes alone stop nobody
        (folder / "open").write_text("secret seeds")
        (folder / "open").chmod(0o666)
        (folder / "secret").write_text("secret seeds")
        (folder / "secret").chmod(0o600)
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        tcp = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = f"kernelloop-{os.getpid()}"
        for address in (str(folder / "socket"), f"\0{abstract}"):
            listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(address)
            listening.listen(64)
        (folder / "socket").chmod(0o777)
        self.world = {
            "folder": str(folder), "open_file": str(folder / "open"), "secret_file": str(folder / "secret"),
            "own_code": str(Path(namespaces.__file__)), "process": process.pid, "tcp": tcp.getsockname()[1],
            "unix": str(folder / "socket"), "abstract": abstract, "shared_memory": self._shared_memory(),
            "clone": 56 if os.uname().machine == "x86_64" else 220, "num_processes": LIMITS.num_processes,
            "file_bytes": LIMITS.file_bytes, "max_entries": namespaces.MAX_ENTRIES,
            "outside_group": _outside_group(),
        }  # fmt: skip

    def _shared_memory(self) -> int:
        libc, key = ctypes.CDLL(None, use_errno=True), 0x4B4C0000 + os.getpid() % 65536
        segment = libc.shmget(key, 4096, _IPC_CREAT | 0o666)
        if segment < 0:
            raise OSError(ctypes.get_errno(), "shmget")
        self._stack.callback(libc.shmctl, segment, _IPC_RMID, None)
        return key

    def close(self) -> None:
        self._stack.close()


def _outside_group() -> tuple[str, ...]:
    """Where a child would be without a control group of its own; () where it is."""
    if "control_group" not in isolation.available():
        return ()
    group = control_group.make()
    group.remove()
    return group.outside


def outcome(zygote: Zygote, attack: Attack, world: dict[str, Any], *, without: tuple[str, ...]) -> str | None:
    """What stopped the attack behind all layers but `without`; None if nothing did. Raises ValueError where it
    failed in a way that no layer explains."""
    source = _PROGRAM.format(world=world, attack=attack.program, success=_SUCCESS)
    limits = dataclasses.replace(LIMITS, memory_bytes=attack.memory_bytes or LIMITS.memory_bytes)
    ended = zygote.run("describe", wire.pack({"source": source}), limits=limits, without=_with_dependent(without))
    if ended.out_of_memory:
        return "OutOfMemory: the control group's limit"
    if ended.result is None:
        raise ValueError(f"{attack.name}: no result: {ended}")
    told = str(wire.unpack(ended.result)[0]["error"])
    if _SUCCESS in told:
        return None
    kind = told.split(":")[0]
    if not issubclass(getattr(builtins, kind, Exception), OSError):
        raise ValueError(f"{attack.name}: {told}")
    return told


def _with_dependent(without: tuple[str, ...]) -> tuple[str, ...]:
    """Where the interpreter lies in a folder closed to others, an ordinary user's child needs mounts of its own."""
    closed = any(namespaces.closed_around(folder) for folder in file_view.libraries())
    return (*without, "unprivileged_uid") if "mount_namespace" in without and closed else without
