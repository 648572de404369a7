"""Control groups: what a warm process's children may take together, of memory and of processes.

A group is made where this process may make one and lies inside the groups whose limits bind this process, so it can
only take away. Its warm process enters it once, since entering waits for every processor (some 10 ms); children are
born in it, and are the first that the kernel ends for its limit. Sources: Documentation/admin-guide/cgroup-v1/ and
cgroup-v2.rst. Knows nothing of what runs inside.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.settings import Limits

_NEEDED = frozenset({"memory", "pids"})
_KERNEL_BYTES = 64 << 20  # page tables and other memory of the kernel's, of which a child takes some MiB
_REMOVAL_SECONDS = 2.0
_NO_LIMIT = {True: "max", False: "-1"}  # of memory, by whether the hierarchy is unified
_serial = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where groups can be made: a folder for each hierarchy, memory's first, and where in it this process is. One
    hierarchy if it is `unified` (version 2), else two."""

    folders: tuple[Path, ...]
    own: tuple[Path, ...]
    unified: bool


class ControlGroup:
    """A group of no processes yet. Its limits are set from outside it. Call `remove` when done. Raises OSError where
    none can be made."""

    def __init__(self, home: Home) -> None:
        self._unified, self.outside = home.unified, tuple(map(str, home.own))
        self._limits: tuple[str, str] | None = None
        _sweep(home)
        if home.unified and not _handed_on(home.folders[0]) >= _NEEDED:
            (home.folders[0] / "cgroup.subtree_control").write_text("+memory +pids")
        name = f"{_prefix()}{os.getpid()}-{next(_serial)}"
        self._folders = tuple(folder / name for folder in home.folders)
        try:
            for folder in self._folders:
                folder.mkdir(mode=0o755)
            self._forbid_swap()
        except OSError:
            self.remove()
            raise

    @property
    def folders(self) -> tuple[str, ...]:
        """For `enter`."""
        return tuple(map(str, self._folders))

    def _forbid_swap(self) -> None:
        """Where there is no file for it the kernel has no swap to count, or none that it counts."""
        path, value = ("memory.swap.max", "0") if self._unified else ("memory.swappiness", "0")
        if (self._folders[0] / path).exists():
            (self._folders[0] / path).write_text(value)

    def limit(self, limits: Limits, *, inherited_bytes: int, num_others: int) -> None:
        """Bounds what is charged from now on. Raises OSError.

        A child copies what it writes to of the `inherited_bytes` that its warm parent holds, and its scratch folder may
        be memory: neither counts against `limits.memory_bytes` of a single process. `num_others` are the processes and
        threads inside that are not the child's.
        """
        memory_bytes = limits.memory_bytes + limits.scratch_bytes + inherited_bytes + _KERNEL_BYTES
        self._write(memory=str(memory_bytes), tasks=str(limits.num_processes + num_others))

    def unlimit(self) -> None:
        """Lets what is inside take what there is. Raises OSError."""
        self._write(memory=_NO_LIMIT[self._unified], tasks="max")

    def _write(self, *, memory: str, tasks: str) -> None:
        if self._limits == (memory, tasks):
            return
        self._limits = None
        (self._folders[0] / ("memory.max" if self._unified else "memory.limit_in_bytes")).write_text(memory)
        (self._folders[-1] / "pids.max").write_text(tasks)
        self._limits = (memory, tasks)

    def used_bytes(self) -> int:
        """What is charged now, a few hundred KiB more or less. Raises OSError."""
        return int((self._folders[0] / ("memory.current" if self._unified else "memory.usage_in_bytes")).read_text())

    def num_tasks(self) -> int:
        """The processes and threads inside. Raises OSError."""
        return int((self._folders[-1] / "pids.current").read_text())

    def refused(self) -> Refusals:
        """What its limits have done so far. Raises OSError."""
        memory = self._folders[0]
        if self._unified:
            events = _numbers(memory / "memory.events")
            return Refusals(num_at_limit=events["oom"], num_killed=events["oom_kill"])
        killed = _numbers(memory / "memory.oom_control")["oom_kill"]
        return Refusals(num_at_limit=int((memory / "memory.failcnt").read_text()), num_killed=killed)

    def remove(self) -> bool:
        """Ends every process inside, and whether the group is gone then. Never raises."""
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while not _removed(self._folders):
            if time.monotonic() > deadline:
                return False
            for pid in {pid for folder in self._folders for pid in _processes(folder)}:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Counts since a group was made: allocations that met its limit, and processes that the kernel ended inside."""

    num_at_limit: int
    num_killed: int

    def killed_since(self, before: Refusals) -> bool:
        """Whether the limit cost a process its life; the machine's own want of memory does not count."""
        return self.num_killed > before.num_killed and self.num_at_limit > before.num_at_limit


def make() -> ControlGroup:
    """A new group. Raises OSError where this process can make none."""
    found = home(mounts=Path("/proc/self/mountinfo").read_text(), own=Path("/proc/self/cgroup").read_text())
    if found is None:
        raise OSError("no control group for memory and processes can be made here")
    return ControlGroup(found)


def enter(folders: Iterable[str]) -> None:
    """Moves this process, not what it has forked, into a group. Raises OSError."""
    for folder in folders:
        (Path(folder) / "cgroup.procs").write_text("0")


def leave(folders: Sequence[str], *, outside: Iterable[str]) -> None:
    """Moves this process out of a group that nobody may be left to remove, and removes it. Never raises: groups of
    processes that are gone are removed when the next is made."""
    with contextlib.suppress(OSError):
        enter(outside)
    _removed(map(Path, folders))


def die_first() -> None:
    """Where memory is short, this process and what it starts are ended before any other. For good, if it is root's
    process. Raises OSError."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def home(*, mounts: str, own: str) -> Home | None:
    """Where groups can be made, from the texts of /proc/self/mountinfo and /proc/self/cgroup."""
    hierarchies = list(_mounted(mounts))
    groups = {names: path for _, names, path in (line.split(":", 2) for line in own.splitlines())}
    for hierarchy in hierarchies:
        place = None if hierarchy.names else hierarchy.place(groups.get(""))
        if place is not None and (unified := _unified(place, top=hierarchy.point)) is not None:
            return Home(folders=(unified,), own=(place,), unified=True)
    memory, pids = (_version_1(name, groups=groups, hierarchies=hierarchies) for name in ("memory", "pids"))
    if memory is None or pids is None or not _inherits(memory):
        return None
    return Home(folders=(memory, pids), own=(memory, pids), unified=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hierarchy:
    """A mounted hierarchy of groups, from the group `root` on. `names` are its options, its controllers among them; of
    version 2 none."""

    names: frozenset[str]
    root: str
    point: Path

    def place(self, group: str | None) -> Path | None:
        """The folder of a group; None where it is not shown."""
        try:
            below = None if group is None else Path(group).relative_to(self.root)
        except ValueError:
            return None
        return None if below is None or ".." in below.parts else self.point / below


def _mounted(text: str) -> Iterator[_Hierarchy]:
    """Those in a text of proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, point = left.split(" ")[3:5]
        if kind in ("cgroup", "cgroup2"):
            names = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
            yield _Hierarchy(names=names, root=root, point=Path(point))


def _version_1(name: str, *, groups: Mapping[str, str], hierarchies: Iterable[_Hierarchy]) -> Path | None:
    """The folder of this process's group in the hierarchy of a controller."""
    own = next((path for names, path in groups.items() if name in names.split(",")), None)
    places = (hierarchy.place(own) for hierarchy in hierarchies if name in hierarchy.names)
    return next((place for place in places if place is not None), None)


def _inherits(memory: Path) -> bool:
    """Whether a group's limits bind the groups inside it, as they always do since Linux 5.11."""
    try:
        return (memory / "memory.use_hierarchy").read_text().strip() == "1"
    except OSError:
        return False


def _unified(own: Path, *, top: Path) -> Path | None:
    """The nearest group from `own` upwards that hands both controllers on. No group but the root's has processes and
    does so; and nothing is made above a group that has a memory limit, which would no longer bind."""
    for group in (own, *own.parents):
        try:
            may = set((group / "cgroup.controllers").read_text().split()) >= _NEEDED
            is_root = not (group / "cgroup.type").exists()
            if _handed_on(group) >= _NEEDED or (is_root and may):
                return group
            if is_root or group == top or (group / "memory.max").read_text().strip() != "max":
                return None
        except OSError:
            return None
    return None


def _handed_on(group: Path) -> set[str]:
    return set((group / "cgroup.subtree_control").read_text().split())


def _prefix() -> str:
    """Process ids mean something within one PID namespace alone."""
    return f"kernelloop-{os.stat('/proc/self/ns/pid').st_ino}-"


def _sweep(home: Home) -> None:
    """Removes the groups of processes that are gone."""
    for folder in home.folders:
        for stale in folder.glob(f"{_prefix()}*"):
            pid = stale.name.removeprefix(_prefix()).split("-")[0]
            if not os.path.exists(f"/proc/{pid}"):
                _removed((stale,))


def _removed(folders: Iterable[Path]) -> bool:
    """Removes those that hold no process; whether none is left."""
    left = False
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left = True
    return not left


def _processes(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split() if pid != "0"]
    except OSError:
        return []


def _numbers(path: Path) -> dict[str, int]:
    """A file of names with a number each."""
    return {name: int(number) for name, number in (line.split() for line in path.read_text().splitlines() if line)}
